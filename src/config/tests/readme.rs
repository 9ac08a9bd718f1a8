//! What README.md says of the configuration.

use super::*;

const README: &str = include_str!("../../../README.md");

#[test]
fn the_readmes_file_is_one_that_loads() {
    let (_, rest) = README.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let loaded = Scene::new().project(text).load().unwrap();
    assert_eq!(names(&loaded), ["orders", "billing", "shop"]);
    let billing = &loaded.config.targets[1];
    assert_eq!((billing.endpoint.port, billing.listen.port), (5433, 6543));
}

#[test]
fn the_readme_has_every_option() {
    for key in Key::ALL.into_iter().filter(|key| *key != Key::Host) {
        assert!(README.contains(&format!("\n| `{}` |", key.flag())), "{}", key.flag());
    }
}
