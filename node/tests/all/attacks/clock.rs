//! Time as a weapon: metadata that is kept from a device, and clocks that are wrong, wander or step back.

use burr_protocol::{Wall, rules::Rules};

use super::{
    DAY, Desk, Device, EPOCH, Hands,
    rogue::Rogue,
    shop::{Shop, in_words},
};

fn after(days: i64) -> Wall {
    Wall(EPOCH.0 + days * DAY)
}

#[tokio::test(flavor = "multi_thread")]
async fn t05_a_mesh_that_keeps_news_back_is_noticed_by_age_and_one_honest_contact_ends_it() {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    shop.release("1.0.0");
    // All that this device ever meets serves what was the newest 40 days ago; the timestamp was good for 30.
    let rogue = Rogue::start(shop.id()).await;
    rogue.hold(&shop.payloads()).await;
    rogue.offer(shop.pack()).await;
    let clock = Hands::at(after(40));
    let mut device = Device::start(&desk.at("device"), shop.id(), &clock, &[("freshness", "strict")]).await;
    rogue.meet(&device.address()).await;
    let why = device.hear_waiting().await;
    assert!(why.contains("expired 240 hours ago"), "{why}");
    let status = device.status().await;
    let repository = &status.repositories[0];
    assert_eq!((repository.age_s, repository.expires_in_s), (Some(40 * DAY), Some(-10 * DAY)));
    assert!(status.apps[0].why.as_ref().is_some_and(|why| why.contains("expired")), "{status:?}");
    assert_eq!(device.active().await, None);

    shop.renew(after(40));
    let kiosk = Device::kiosk(&desk.at("kiosk"), shop.id(), &clock, Some(&device)).await;
    kiosk.import(&shop).await;
    device.hear_active("1.0.0").await;
    rogue.end().await;
    device.stop().await;
    kiosk.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t26_a_device_whose_clock_is_1970_updates_and_still_knows_what_is_old() {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    shop.release("1.0.0");
    let stale = shop.pack();
    let clock = Hands::at(Wall(0));
    let data = desk.at("device");
    let mut device = Device::start(&data, shop.id(), &clock, &[("freshness", "strict")]).await;
    device.import(&shop).await;
    device.hear_active("1.0.0").await;
    // Signed time is the clock from now on: 60 days later by a release, an unreleased version of then is old.
    shop.now = after(60);
    shop.release("2.0.0");
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    device.refuses(shop.id(), stale).await;
    device.stop().await;
    // A restart with the clock still at 1970 forgets none of it.
    let device = Device::start(&data, shop.id(), &clock, &[("freshness", "strict")]).await;
    let repository = device.status().await.repositories.remove(0);
    assert_eq!((repository.age_s, repository.expires_in_s), (Some(0), Some(30 * DAY)));
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t27_a_clock_at_2100_installs_nothing_and_leaves_nothing_behind() {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    shop.release("1.0.0");
    let clock = Hands::at(Wall(4_102_444_800));
    let mut device = Device::start(&desk.at("device"), shop.id(), &clock, &[("freshness", "180days")]).await;
    device.import(&shop).await;
    let why = device.hear_waiting().await;
    assert!(why.contains("expired"), "{why}");
    assert_eq!(device.active().await, None);
    clock.set(after(1));
    device.hear_active("1.0.0").await;
    // It steps back behind the signed time: no error, and no older release either.
    let old = shop.pack();
    shop.release("2.0.0");
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    clock.set(Wall(EPOCH.0 - 400 * DAY));
    device.refuses(shop.id(), old).await;
    shop.release("3.0.0");
    device.import(&shop).await;
    device.hear_active("3.0.0").await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t28_two_hundred_days_without_news_end_as_the_policy_says() {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    shop.release("1.0.0");
    // What a device finds in a drawer's kiosk after 200 days, 170 past the timestamp's expiry.
    for (policy, installs) in [("strict", false), ("180days", true), ("160days", false)] {
        let data = desk.at(policy);
        let mut device = Device::start(&data, shop.id(), &Hands::at(after(200)), &[("freshness", policy)]).await;
        device.import(&shop).await;
        if installs {
            device.hear_active("1.0.0").await;
        } else {
            assert!(device.hear_waiting().await.contains("expired 4080 hours ago"));
            assert_eq!(device.active().await, None, "{policy}");
        }
        device.stop().await;
    }
    // A device that nothing but a medium ever reaches asks nothing of time: what is brought installs, and only goes up.
    let data = desk.at("air-gap");
    let clock = Hands::at(after(2000));
    let mut device = Device::start(&data, shop.id(), &clock, &[("freshness", "36500days")]).await;
    let first = shop.pack();
    device.import(&shop).await;
    device.hear_active("1.0.0").await;
    let mut brought = shop.fork();
    brought.release("2.0.0");
    clock.set(after(4000));
    device.import(&brought).await;
    device.hear_active("2.0.0").await;
    // Its publisher has a say too: who tolerates anything does not take what is signed to be taken until then.
    let release = brought.release("3.0.0");
    brought.set_rules(release.seq, &Rules { not_after: Some(after(100)), ..Rules::default() });
    device.import(&brought).await;
    assert!(device.hear_waiting().await.contains("it ended at"));
    device.import(&shop).await;
    device.refuses(shop.id(), first).await;
    assert_eq!((device.active().await.as_deref(), device.version().await), (Some("2.0.0"), Some(brought.version())));
    device.stop().await;
    // What runs already is not taken away by time.
    let clock = Hands::at(EPOCH);
    let mut device = Device::start(&desk.at("runs"), shop.id(), &clock, &[("freshness", "strict")]).await;
    device.import(&shop).await;
    device.hear_active("1.0.0").await;
    clock.set(after(200));
    device.stop().await;
    let device = Device::start(&desk.at("runs"), shop.id(), &clock, &[("freshness", "strict")]).await;
    assert_eq!(device.active().await.as_deref(), Some("1.0.0"));
    assert!(device.current().join("index.html").exists());
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t29_a_device_ends_with_the_newest_of_three_kiosks() {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    let clock = Hands::at(EPOCH);
    // Each kiosk heard of one version and is alone since.
    for version in ["5.0.0", "6.0.0", "7.0.0"] {
        shop.release(version);
        let kiosk = Device::kiosk(&desk.at(version), shop.id(), &clock, None).await;
        kiosk.import(&shop).await;
        kiosk.stop().await;
    }
    let mut device = Device::start(&desk.at("device"), shop.id(), &clock, &[]).await;
    let mut kiosks = Vec::new();
    for version in ["5.0.0", "7.0.0", "6.0.0"] {
        kiosks.push(Device::kiosk(&desk.at(version), shop.id(), &clock, Some(&device)).await);
    }
    device.hear_active("7.0.0").await;
    assert_eq!(device.version().await, Some(shop.version()));
    for kiosk in kiosks {
        kiosk.stop().await;
    }
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t31_a_factory_reset_device_is_not_led_back_behind_its_image() {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    shop.release("1.0.0");
    let old = shop.pack();
    shop.now = after(20);
    shop.release("2.0.0");
    // The image was made then; the device has no state and no clock.
    let since = in_words(shop.now);
    let image = [("since", since.as_str()), ("freshness", "180days")];
    let data = desk.at("device");
    let mut device = Device::start(&data, shop.id(), &Hands::at(Wall(0)), &image).await;
    device.refuses(shop.id(), old.clone()).await;
    assert_eq!((device.version().await, device.active().await), (None, None));
    device.import(&shop).await;
    device.hear_active("2.0.0").await;
    device.stop().await;
    // Without a floor in the image there is nothing to compare with: a device that never saw more takes it.
    let mut device = Device::start(&desk.at("bare"), shop.id(), &Hands::at(Wall(0)), &[]).await;
    device.judge(shop.id(), old).await;
    device.hear_verified(2).await;
    device.stop().await;
}
