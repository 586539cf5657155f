//! What becomes of outputs between the model and the answer: classes, and shared memory.

use nereid_core::{ModelVersion, OutputPlace, Regions};
use nereid_inference::{Response, Result};
use nereid_protocol::{OutputFormat, classify};

/// What the client of one request wants done with its outputs.
pub(crate) struct Delivery<'a> {
    model: &'a ModelVersion,
    format: &'a OutputFormat,
    /// Found before the model runs: a wrong region is the request's error.
    places: Vec<(&'a str, OutputPlace)>,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(
        regions: &Regions,
        model: &'a ModelVersion,
        format: &'a OutputFormat,
    ) -> Result<Self> {
        let place = |(name, range)| Ok((name, regions.output(range)?));
        let places = format.regions().map(place).collect::<Result<_>>()?;
        Ok(Self { model, format, places })
    }

    /// Replaces outputs by their classes, and writes those for shared memory there.
    pub(crate) fn deliver(&self, mut response: Response) -> Result<Response> {
        for output in &mut response.outputs {
            let classes = self.format.classes(&output.name);
            if classes > 0 {
                let label = |class| self.model.label(&output.name, class);
                *output = classify(output, classes, self.model.config.batches(), label)?;
            }
            if let Some((_, place)) = self.places.iter().find(|(name, _)| *name == output.name) {
                place.write(output)?;
            }
        }
        Ok(response)
    }
}
