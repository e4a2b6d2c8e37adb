//! The public EfficientNet-Lite0 weights on real ImageNet photographs, on the built-in executor.

use std::path::{Path, PathBuf};

use image::imageops::{self, FilterType};
use penjing_exec::cpu_executor;
use penjing_graph::zoo::{self, ZooOptions};
use penjing_graph::{Tensor, weights};

fn asset(name: &str) -> PathBuf {
    let assets =
        std::env::var_os("PENJING_ASSETS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/assets"), PathBuf::from);
    let path = assets.join(name);
    assert!(path.exists(), "there is no {} (hint: scripts/assets)", path.display());
    path
}

/// Shorter side to 256 (bicubic), 224 from the middle, (v − 127) / 128, channels first.
fn pixels(path: &Path) -> Vec<f32> {
    let photo = image::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into_rgb8();
    let (width, height) = photo.dimensions();
    let scaled = |side: u32| (f64::from(side) * 256.0 / f64::from(width.min(height))).round() as u32;
    let photo = imageops::resize(&photo, scaled(width), scaled(height), FilterType::CatmullRom);
    let (left, top) = ((photo.width() - 224) / 2, (photo.height() - 224) / 2);
    let crop = imageops::crop_imm(&photo, left, top, 224, 224).to_image();
    (0..3).flat_map(|channel| crop.pixels().map(move |pixel| (f32::from(pixel[channel]) - 127.0) / 128.0)).collect()
}

#[test]
fn eighteen_of_twenty_photographs_are_named_rightly() {
    let state = weights::load(&asset("efficientnet-lite0/efficientnet-lite0-57934424.pth")).unwrap();
    let fresh = zoo::build("efficientnet-lite0", &ZooOptions::default()).unwrap();
    let mut executor = cpu_executor(&weights::apply(&fresh, &state).unwrap()).unwrap();

    let labels = std::fs::read_to_string(asset("imagenet-20/labels.csv")).unwrap();
    let rows: Vec<(&str, usize)> =
        labels.lines().skip(1).map(|row| row.split_once(',').unwrap()).map(|(file, label)| (file, label.parse().unwrap())).collect();
    assert_eq!(rows.len(), 20);
    let right = rows.iter().filter(|(file, label)| {
        let image = Tensor::new([1, 3, 224, 224], pixels(&asset("imagenet-20").join(file)));
        let logits = executor.run(&[image], fresh.outputs()).unwrap().remove(0);
        let logits = logits.to_f32().unwrap();
        let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
        best == Some(*label)
    });
    assert_eq!(right.count(), 18);
}
