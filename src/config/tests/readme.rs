//! Holds documents and deployments to the program: their example files load.

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

#[test]
fn files_of_the_deployments_load() {
    for text in [
        include_str!("../../../deploy/sidecar/rdsgate.toml"),
        include_str!("../../../deploy/shared/rdsgate.toml"),
        include_str!("../../../docs/containers.md").split("```toml\n").nth(1).unwrap().split("```").next().unwrap(),
    ] {
        assert_eq!(names(&Scene::new().user(text).load().unwrap()), ["orders"], "{text}");
    }
}
