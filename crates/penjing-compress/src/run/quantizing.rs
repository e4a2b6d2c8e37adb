//! Numbers of a network in another form, within a run: by its data, its trainings and its floor.

use std::collections::BTreeSet;

use penjing_exec::data::{Dataset, Split};
use penjing_graph::Graph;

use super::{Baseline, Fit, Judged, RunError, RunEvent, Work, Workshop};
use crate::floor::Floor;
use crate::prune::{Calibration, SplitSamples, TrainingSamples};
use crate::quant::{self, Conversion, Quantization, QuantizationReport, Reverting, StaticQuantization};

impl Workshop<'_, '_> {
    /// Turns the network's weights and activations into codes: of all layers, or of as many as an accuracy floor lets be.
    pub(crate) fn quantize(&mut self, step: &Quantization, baseline: Option<Baseline<'_>>, work: &mut Work) -> Result<(), RunError> {
        self.tell(RunEvent::Stage("quantize"));
        let judge = match (step.floor, baseline) {
            (Some(floor), Some(baseline)) => {
                if let Baseline::Accuracy(_) = baseline {
                    floor.check()?;
                    work.floor = Some(floor);
                }
                Some((baseline, floor))
            }
            (Some(_), None) => {
                let reason = "an accuracy floor needs labelled data to measure on (hint: --labels FILE, or a --metric-command)";
                return Err(RunError::Recipe(reason.into()));
            }
            (None, _) => None,
        };
        if step.qat && !self.has_labels() {
            let reason = "quantization-aware training needs data with labels (hint: --labels FILE, or --rounding adaround without --qat)";
            return Err(RunError::Recipe(reason.into()));
        }
        let (mut graph, mut report) = self.quantized(&work.graph, step, &BTreeSet::new())?;
        if let Some(judge) = judge {
            (graph, report) = self.reverted((graph, report), step, judge, work)?;
        }
        let constant = report.activations.iter().filter(|activation| activation.all_zero);
        let note = |tensor: &str, scale: f32| {
            format!("only zeros were seen in `{tensor}`, so that its scale of {scale} is a convention (hint: give samples that reach it)")
        };
        work.notes.extend(constant.map(|activation| note(&activation.tensor, activation.scale)));
        work.notes.extend(report.notes.iter().cloned());
        (work.graph, work.quantization) = (graph, Some(report));
        Ok(())
    }

    /// The network with its weights and activations as codes, save those of some layers.
    fn quantized(
        &mut self,
        graph: &Graph,
        step: &Quantization,
        reverted: &BTreeSet<String>,
    ) -> Result<(Graph, QuantizationReport), RunError> {
        let data = self.calibration_data()?;
        let samples = TrainingSamples { data, samples: step.calibration_samples, seed: self.retrain.seed };
        let mut quantization = StaticQuantization::calibrated(graph, step, reverted, &samples)?;
        if step.qat {
            let stage = if reverted.is_empty() { "qat".into() } else { format!("qat-{}", reverted.len()) };
            let fit = Fit { settings: self.retrain, masks: Some(&quantization.zeros()), ..Fit::default() };
            quantization.take(&self.fit_as(&stage, &quantization.trainable()?, fit)?)?;
        }
        let data = self.calibration_data()?;
        let validation = SplitSamples { data, split: Split::Validation };
        let held_back: Option<&dyn Calibration> = if data.is_empty(Split::Validation) { None } else { Some(&validation) };
        Ok(quantization.finished(held_back)?)
    }

    fn calibration_data(&self) -> Result<&Dataset, RunError> {
        self.data.as_ref().ok_or_else(|| RunError::Recipe("ranges of activations are found from data (hint: --data)".into()))
    }

    /// The quantized network with the fewest layers in float that holds the floor, the most damaging of them first; the most accurate
    /// that was found where none does.
    fn reverted(
        &mut self,
        whole: (Graph, QuantizationReport),
        step: &Quantization,
        (baseline, floor): (Baseline<'_>, Floor),
        work: &mut Work,
    ) -> Result<(Graph, QuantizationReport), RunError> {
        let judged = self.judge("quantized", &whole.0, baseline, floor)?;
        let mut reverting = vec![self.noted_reverting(0, &judged)];
        if judged.verdict.holds {
            return Ok((whole.0, QuantizationReport { reverting, ..whole.1 }));
        }
        self.tell(RunEvent::Stage("damage of each layer"));
        let samples = TrainingSamples { data: self.calibration_data()?, samples: step.calibration_samples, seed: self.retrain.seed };
        let damages = quant::damages(&work.graph, step, &samples)?;
        // Of a network whose last layer went back nothing would be quantized.
        let mut search = quant::Fewest::of(damages.len().saturating_sub(1));
        let (mut best, mut held) = ((judged.score, whole), None);
        while let Some(count) = search.next() {
            let network = self.quantized(&work.graph, step, &quant::worst(&damages, count))?;
            let judged = self.judge(&format!("reverted-{count}"), &network.0, baseline, floor)?;
            search.note(count, judged.verdict.holds);
            reverting.push(self.noted_reverting(count, &judged));
            match judged.verdict.holds {
                true => held = Some(network),
                false if judged.score > best.0 => best = (judged.score, network),
                false => {}
            }
        }
        if held.is_none() {
            work.missed = Some("the floor breaks with all layers but one in float (hint: a lower floor, or --calibration-samples)".into());
        }
        let (graph, report) = held.unwrap_or(best.1);
        Ok((graph, QuantizationReport { damages, reverting, ..report }))
    }

    fn noted_reverting(&mut self, float: usize, judged: &Judged) -> Reverting {
        let reverting = Reverting { float, score: judged.score, holds: judged.verdict.holds };
        self.tell(RunEvent::Reverting(&reverting));
        reverting
    }

    /// Gives the network's numbers another form.
    pub(crate) fn convert(&mut self, step: &Conversion, work: &mut Work) -> Result<(), RunError> {
        self.tell(RunEvent::Stage("convert"));
        let samples = |data| TrainingSamples { data, samples: step.calibration_samples(), seed: self.retrain.seed };
        let samples = self.data.as_ref().filter(|_| step.calibration_samples() > 0).map(samples);
        let (graph, report) = quant::convert(&work.graph, step, samples.as_ref().map(|samples| samples as &dyn Calibration))?;
        work.notes.extend(report.notes.iter().cloned().chain(step.untimed().map(String::from)));
        (work.graph, work.conversion) = (graph, Some(report));
        Ok(())
    }
}
