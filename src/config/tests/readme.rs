//! Holds docs/configuration.md to the program: its example file loads.

use super::*;

const PAGE: &str = include_str!("../../../docs/configuration.md");

#[test]
fn documented_example_file_loads() {
    let (_, rest) = PAGE.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let loaded = Scene::new().project(text).load().unwrap();
    assert_eq!(names(&loaded), ["orders", "billing", "shop"]);
    let billing = &loaded.config.targets[1];
    assert_eq!((billing.endpoint.port, billing.tcp().unwrap().port), (5433, 6543));
}
