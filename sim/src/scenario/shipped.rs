//! The scenarios that are built in, by name.

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        /// The scenarios that are built in: name and text.
        pub const SHIPPED: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*];
    };
}

shipped!(
    "field_fleet",
    "lan_cache",
    "kiosk_courier",
    "partition",
    "flash_crowd",
    "hostile_peers",
    "hostile_swarm",
    "scale_1m",
    "lab_s1",
    "lab_s2",
    "swarm",
);
