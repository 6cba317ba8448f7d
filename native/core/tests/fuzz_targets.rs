//! The fuzz targets (fuzz/native) without libFuzzer: every input that was kept, and some thousand mutations of each.

#[path = "../../../fuzz/native/src/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

use tollgate_media::rng::Rng;

/// Run a target with what its folder in fuzz/regressions holds.
fn run(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions").join(name);
    let kept: Vec<Vec<u8>> =
        fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!kept.is_empty());
    let mut rng = Rng::seeded(1);
    target(&[]);
    for seed in &kept {
        target(seed);
        for _ in 0..2_000 {
            target(&targets::mutated(seed, &mut rng));
        }
    }
}

#[test]
fn rfc3550_packets_of_any_kind_do_no_harm() {
    run("rtp", targets::rtp);
}

#[test]
fn rfc3550_6_reports_of_any_kind_do_no_harm() {
    run("rtcp", targets::rtcp);
}

#[test]
fn rfc3711_changed_packets_do_not_open() {
    run("srtp", targets::srtp);
}

#[test]
fn rfc4733_events_of_any_kind_press_no_keys() {
    run("telephone_event", targets::telephone_event);
}
