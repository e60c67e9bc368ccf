//! What is late: given up, asked of a nearer one, or, at the end, asked of another as well.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use super::{Job, NodeId, RequestId, Step, alone::LASTS, claims::RUN, plan::Plan, provider::Provider, request::Under};
use crate::{Time, config::Config};

/// At the end, a piece that took at least this long, and twice as long as pieces take, is asked of another as well. What was
/// asked of a far one is asked of one that takes half as long as that has taken already. A long run, and what
/// stands behind one, is late once its provider brought nothing for as long as a run takes: it would come twice.
const SHORTEST_HEDGE: Duration = Duration::from_millis(100);
const SHORTEST_HEDGE_FAR: Duration = Duration::from_secs(1);
/// Before the end, where what is left is others' to bring, after this long.
const LONG_HEDGE_FAR: Duration = Duration::from_secs(4);

/// Pieces that are late.
struct Late {
    /// Of whom they were asked.
    node: NodeId,
    /// For how long; of a near one, whoever else has them is the better one.
    waited: Duration,
    pieces: Range<usize>,
}

impl Job {
    /// Gives up what is asked of those that stand still, where others have it: it is free to be asked of them.
    pub(super) fn give_up(&mut self, now: Time, config: &Config) {
        let still: Vec<NodeId> =
            self.providers.iter().filter(|(_, provider)| provider.is_stalled(now)).map(|(node, _)| *node).collect();
        for node in &still {
            let others = || {
                let usable =
                    |(other, provider): &(&NodeId, &Provider)| !still.contains(other) && provider.rests.is_none();
                self.providers.iter().filter(usable).map(|(_, provider)| &provider.held)
            };
            let of_it = self.under.iter().filter(|(_, under)| under.request.node == *node);
            let given_up: Vec<RequestId> = of_it
                .filter(|(_, under)| others().any(|held| held.contains(under.rest().start)))
                .map(|(id, _)| *id)
                .collect();
            if given_up.is_empty() {
                continue;
            }
            for id in given_up {
                self.end(id);
            }
            self.strike(*node, now, config);
            if self.told.insert(*node) {
                self.slow.push(*node);
            }
        }
    }

    /// What a near provider that did not fail has by now, and a far one sent nothing of yet, is free to be asked of the near one.
    pub(super) fn come_near(&mut self) {
        let is_near = |node: &NodeId| self.providers.get(node).is_some_and(|provider| provider.near);
        let near = || self.providers.values().filter(|provider| provider.near && !provider.is_struck());
        let waits = self.under.iter().filter(|(_, under)| under.bytes == 0 && !is_near(&under.request.node));
        let nearer = waits.filter(|(_, under)| near().any(|near| under.rest().all(|piece| near.held.contains(piece))));
        let nearer: Vec<RequestId> = nearer.map(|(id, _)| *id).collect();
        for id in nearer {
            self.end(id);
        }
    }

    /// Asks another as well for what is late: the first answer counts.
    pub(super) fn hedge(
        &mut self,
        now: Time,
        next_id: &mut u64,
        plan: &mut Plan,
        config: &Config,
        steps: &mut Vec<Step>,
    ) {
        for late in self.late(now, plan) {
            if self.under.len() >= config.requests_per_job {
                return;
            }
            if let Some((helper, count)) = self.helper(&late, now, plan) {
                steps.push(self.ask(helper, late.pieces.start, count, true, now, next_id, plan));
            }
        }
    }

    /// What is late, once nothing is left to ask for. What the other nodes of a site are to bring is not this node's to ask
    /// for, so it may have come to its end far away before they do.
    fn late(&self, now: Time, plan: &Plan) -> Vec<Late> {
        let takes = || self.providers.values().filter_map(|provider| provider.takes);
        let usual = takes().sum::<Duration>() / u32::try_from(takes().count().max(1)).unwrap_or(u32::MAX);
        let long = self.under.values().filter(|under| under.is_long()).map(|under| under.request.node);
        let long: BTreeSet<NodeId> = long.collect();
        let mut late: Vec<(&Under, bool)> = Vec::new();
        for under in self.under.values().filter(|under| !under.second) {
            let Some(provider) = self.providers.get(&under.request.node) else { continue };
            let (moved, shortest) = match (long.contains(&under.request.node), provider.near) {
                (true, _) => (provider.moved, LASTS),
                (false, true) => (under.moved, SHORTEST_HEDGE.max(usual * 2)),
                (false, false) => (under.moved, SHORTEST_HEDGE_FAR),
            };
            if now.since(moved) >= shortest {
                late.push((under, provider.near));
            }
        }
        if !plan.free.is_empty() {
            late.retain(|(under, near)| !near && now.since(under.moved) >= LONG_HEDGE_FAR);
            let left =
                |provider: &Provider| provider.rests.is_none() && self.open(provider, plan, now).any(|open| open != 0);
            if late.is_empty() || self.providers.values().any(left) {
                return Vec::new();
            }
        }
        let twice = self.under.values().filter(|under| under.second && !late.is_empty()).flat_map(Under::rest);
        let twice: BTreeSet<usize> = twice.collect();
        let wanted = |piece: &usize| !self.have.contains(*piece) && !twice.contains(piece);
        let part = |(under, near): (&Under, bool)| {
            let first = under.rest().find(wanted)?;
            let count = (first..under.rest().end).take_while(wanted).count();
            let waited = if near { Duration::MAX } else { now.since(under.moved) };
            Some(Late { node: under.request.node, waited, pieces: first..first + count })
        };
        late.into_iter().filter_map(part).collect()
    }

    /// Who is asked for something that is late, and for how many pieces of it.
    fn helper(&self, late: &Late, now: Time, plan: &Plan) -> Option<(NodeId, usize)> {
        let helps = |(node, provider): &(&NodeId, &Provider)| {
            let soon = provider.near || provider.expected(now).is_none_or(|takes| takes * 2 <= late.waited);
            soon && **node != late.node
                && self.room(provider, &plan.alone) > 0
                && !provider.is_struck()
                && !provider.is_stalled(now)
                && provider.held.contains(late.pieces.start)
        };
        let order = |(node, provider): &(&NodeId, &Provider)| {
            let takes = if provider.near { None } else { provider.expected(now) };
            (!provider.near, !provider.is_source(), takes, provider.load(), **node)
        };
        let (helper, provider) = self.providers.iter().filter(helps).min_by_key(order)?;
        let most = usize::try_from(self.room(provider, &plan.alone) / self.piece).unwrap_or(RUN).clamp(1, RUN);
        let held = late.pieces.clone().take(most).take_while(|piece| provider.held.contains(*piece));
        Some((*helper, held.count()))
    }
}
