//! Several forms of one network's numbers, and the one that runs fastest here of those that hold a floor.

use penjing_graph::Graph;
use serde::{Deserialize, Serialize};

use crate::floor::Floor;
use crate::quant::{Conversion, Quantization, QuantizeError};
use crate::run::{Baseline, RunError, RunEvent, Work, Workshop};

/// The forms that are tried, beside the one that the network has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fastest {
    /// Each of them.
    pub of: Vec<Form>,
    /// What must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
}

/// One form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "kebab-case")]
pub enum Form {
    /// Codes with fixed scales.
    Static(Quantization),
    /// Any other.
    Converted(Conversion),
}

impl Form {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Form::Static(_) => "int8, static",
            Form::Converted(Conversion::Dynamic(_)) => "int8, dynamic",
            Form::Converted(Conversion::Fp16(_)) => "fp16",
            Form::Converted(Conversion::Bf16(_)) => "bf16",
            Form::Converted(Conversion::WeightOnly(_)) => "weights alone",
        }
    }
}

/// A form that was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tried {
    /// What it is called.
    pub form: &'static str,
    /// The fraction of the time that the network took before; `None` where it could not be made.
    pub time: Option<f64>,
    /// Accuracy on validation in percent, or the user's own metric, where a floor asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Why it was not chosen; `None` for the one that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
}

/// Tries each form and takes the fastest that holds the floor, or leaves the network as it is where none is faster.
pub(crate) fn choose(
    step: &Fastest,
    baseline: Option<Baseline<'_>>,
    workshop: &mut Workshop<'_, '_>,
    work: &mut Work,
) -> Result<(), RunError> {
    let mut fastest: Option<(usize, f64, Work)> = None;
    for form in &step.of {
        let place = work.tried.len();
        let tried = |time, score, against: Option<&str>| Tried { form: form.name(), time, score, against: against.map(String::from) };
        let tried = match made(form, &work.graph, baseline, workshop)? {
            Err(reason) => tried(None, None, Some(&reason)),
            Ok(made) => {
                let judged = match (step.floor, baseline) {
                    (Some(floor), Some(baseline)) => Some(workshop.judge(form.name(), &made.graph, baseline, floor)?),
                    _ => None,
                };
                let time = workshop.latency(&work.graph, &made.graph)?;
                let score = judged.map(|judged| judged.score);
                let against = match &fastest {
                    _ if judged.is_some_and(|judged| !judged.verdict.holds) => Some("it breaks the floor"),
                    _ if time >= 1.0 => Some("32-bit floats are as fast"),
                    Some((_, best, _)) if time >= *best => Some("another is as fast"),
                    Some(_) | None => None,
                };
                if against.is_none()
                    && let Some((slower, _, _)) = fastest.replace((place, time, made))
                {
                    work.tried[slower].against = Some("another is faster".into());
                }
                tried(Some(time), score, against)
            }
        };
        workshop.tell(RunEvent::Tried(&tried));
        work.tried.push(tried);
    }
    match fastest {
        Some((_, _, Work { graph, notes, floor, quantization, conversion, .. })) => {
            work.notes.extend(notes);
            (work.graph, work.quantization, work.conversion) = (graph, quantization, conversion);
            work.floor = floor.or(work.floor);
        }
        None => work.missed = Some("of all forms that hold the floor, 32-bit floats are the fastest here: nothing was changed".into()),
    }
    Ok(())
}

/// The network in one form; why it cannot have it, where that is the network's own fault.
fn made(
    form: &Form,
    graph: &Graph,
    baseline: Option<Baseline<'_>>,
    workshop: &mut Workshop<'_, '_>,
) -> Result<Result<Work, String>, RunError> {
    let mut work = Work::new(graph.clone());
    let made = match form {
        Form::Static(step) => workshop.quantize(step, baseline, &mut work),
        Form::Converted(step) => workshop.convert(step, &mut work),
    };
    match made {
        Ok(()) => Ok(Ok(work)),
        Err(RunError::Quantize(error @ (QuantizeError::NothingToQuantize { .. } | QuantizeError::NothingToConvert { .. }))) => {
            Ok(Err(error.to_string()))
        }
        Err(error) => Err(error),
    }
}
