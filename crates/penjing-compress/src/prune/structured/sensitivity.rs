//! What the accuracy loses when one group of channels is cut and all others stay whole.

use penjing_exec::data::Split;
use penjing_exec::train::Evaluation;
use penjing_exec::train::statistics::Interval;
use penjing_graph::channels::Removal;
use serde::{Deserialize, Serialize};

use super::Cuttable;
use crate::run::{RunError, Workshop, percent};

/// One group of channels, cut alone, without retraining.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupSensitivity {
    /// The first node that gives its channels.
    pub group: String,
    /// How many it has.
    pub channels: usize,
    /// What was measured, in order of the ratios.
    pub points: Vec<SensitivityPoint>,
}

/// The network on validation without some channels of one group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensitivityPoint {
    /// Fraction of the group's channels that was asked for.
    pub ratio: f64,
    /// Channels removed, those of the lowest scores.
    pub removed: usize,
    /// Percent right.
    pub accuracy: f64,
    /// Change of the accuracy in percentage points, with its paired 95 % interval.
    pub change: f64,
    /// The paired 95 % interval of the change.
    pub change_interval: Interval,
    /// Mean loss.
    pub loss: f64,
}

/// Cuts each group that has scores alone, by each ratio. Every point is remembered.
pub(super) fn sensitivity(
    workshop: &mut Workshop<'_, '_>,
    cuttable: &Cuttable,
    scores: &[Option<Vec<f32>>],
    (ratios, bn_samples): (&[f64], usize),
    baseline: &Evaluation,
) -> Result<Vec<GroupSensitivity>, RunError> {
    let mut found = vec![];
    for (g, group) in cuttable.channels.groups.iter().enumerate() {
        let Some(scores) = &scores[g] else { continue };
        let mut order: Vec<usize> = (0..group.channels).collect();
        // Ties go to the lower index, as in selection.
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(a.cmp(b)));
        let mut points = vec![];
        for ratio in ratios {
            let stage = format!("sensitivity-{}-{ratio}", group.name);
            if let Some(point) = workshop.journal.recall::<SensitivityPoint>(&stage) {
                points.push(point);
                continue;
            }
            let removed = ((ratio * group.channels as f64 + 1e-6).floor() as usize).min(group.channels - 1);
            let mut removal: Removal = vec![vec![]; cuttable.channels.groups.len()];
            removal[g] = order[..removed].to_vec();
            removal[g].sort_unstable();
            let cut = workshop.reestimated(cuttable.cut(&removal)?, bn_samples)?;
            let after = workshop.evaluate(&cut, Split::Validation)?;
            let paired = baseline.paired(&after)?;
            let point = SensitivityPoint {
                ratio: *ratio,
                removed,
                accuracy: 100.0 * after.accuracy(),
                change: 100.0 * paired.difference(),
                change_interval: percent(paired.interval()),
                loss: after.loss.mean,
            };
            workshop.journal.note(&stage, &point)?;
            points.push(point);
        }
        found.push(GroupSensitivity { group: group.name.clone(), channels: group.channels, points });
    }
    Ok(found)
}
