//! What becomes of tensors between a client and a model: shared memory at both ends, and classes.

use std::sync::Arc;

use nereid_core::{ModelVersion, OutputPlace, Regions};
use nereid_inference::{Response, Result};
use nereid_protocol::{InferRequest, OutputFormat, classify};

/// What the client of one request wants done with its outputs; by default nothing.
#[derive(Default)]
pub struct Delivery {
    /// Where the labels of classes are, if it wants classes.
    labels: Option<Arc<ModelVersion>>,
    format: OutputFormat,
    /// Found before the model runs: a wrong region is the request's error.
    places: Vec<(String, OutputPlace)>,
}

impl Delivery {
    /// Finds the inputs of a request that are in shared memory, and what is to become of its outputs.
    pub fn prepare(
        regions: &Regions,
        model: &Arc<ModelVersion>,
        request: &mut InferRequest,
    ) -> Result<Self> {
        for (index, range) in std::mem::take(&mut request.region_inputs) {
            request.inputs[index].data = regions.input(&range)?;
        }
        let format = std::mem::take(&mut request.format);
        let place = |(name, range): (&str, _)| Ok((name.to_owned(), regions.output(range)?));
        let places = format.regions().map(place).collect::<Result<_>>()?;
        let labels = format.wants_classes().then(|| model.clone());
        Ok(Self { labels, format, places })
    }

    pub fn format(&self) -> &OutputFormat {
        &self.format
    }

    /// Whether an output was written to shared memory instead of being sent.
    pub fn places(&self, output: &str) -> bool {
        self.places.iter().any(|(name, _)| name == output)
    }

    /// Replaces outputs by their classes, and writes those for shared memory there.
    pub fn deliver(&self, mut response: Response) -> Result<Response> {
        for output in &mut response.outputs {
            if let Some(model) = &self.labels
                && let classes @ 1.. = self.format.classes(&output.name)
            {
                let label = |class| model.label(&output.name, class);
                *output = classify(output, classes, model.config.batches(), label)?;
            }
            if let Some((_, place)) = self.places.iter().find(|(name, _)| *name == output.name) {
                place.write(output)?;
            }
        }
        Ok(response)
    }
}
