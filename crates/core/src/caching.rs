//! A model's use of the response cache.

use std::sync::Arc;
use std::time::Instant;

use nereid_cache::{Entry, Key, ResponseCache};
use nereid_inference::{
    Answer, CacheLookup, CorrelationId, Request, Response, ResponseSink, Times,
};
use nereid_model_config::ModelConfig;

use crate::model::ModelVersion;
use crate::own::own;

pub(crate) struct Caching {
    cache: Arc<ResponseCache>,
    /// An ensemble's responses repeat parameters of the request, which is another one next time.
    keeps_parameters: bool,
}

impl Caching {
    /// `None` where the model asks for no cache, or the server has none.
    pub(crate) fn new(config: &ModelConfig, cache: Option<&Arc<ResponseCache>>) -> Option<Self> {
        if !config.caches_responses() {
            return None;
        }
        let Some(cache) = cache else {
            tracing::warn!(
                "model '{}' asks for the response cache, but the server has none: see \
                 --cache-config",
                config.name
            );
            return None;
        };
        Some(Self { cache: cache.clone(), keeps_parameters: !config.is_ensemble() })
    }

    /// Between the fourth and the fifth stop of a request: answered from the cache, or on to the
    /// queue, with a sink that keeps the answer for the next one.
    pub(crate) fn submit(&self, model: &Arc<ModelVersion>, mut request: Request) {
        // What a sequence is answered depends on what came before in it.
        if request.correlation != CorrelationId::None {
            return model.enqueue(request);
        }
        let start = Instant::now();
        let all_outputs = model.signature.wants_all_outputs(&request);
        let key = Key::of(&request, model.version, all_outputs);
        let (model, keeps_parameters) = (model.clone(), self.keeps_parameters);
        let cache = self.cache.clone();
        self.cache.lookup(key, move |found| {
            request.responder.times.cache =
                Some(CacheLookup { hit: found.is_some(), duration: start.elapsed() });
            if let Some(entry) = found {
                request.responder.answer(Ok(response(&entry)));
                return;
            }
            request.responder.wrap(|inner| Keeper { inner, key, cache, keeps_parameters });
            model.enqueue(request);
        });
    }
}

fn response(entry: &Entry) -> Response {
    let parameters = entry.parameters.clone();
    Response { parameters, ..Response::new(entry.outputs.clone()) }
}

/// Keeps the answer that passes.
struct Keeper {
    inner: Box<dyn ResponseSink>,
    key: Key,
    cache: Arc<ResponseCache>,
    keeps_parameters: bool,
}

impl ResponseSink for Keeper {
    fn deliver(&mut self, mut answer: Answer, times: &Times) {
        let mut times = *times;
        // Only answers in one piece are kept, and no errors (Triton keeps both of a Python model's
        // as responses without outputs).
        if answer.last
            && let Some(Ok(response)) = &mut answer.response
        {
            let start = Instant::now();
            response.outputs.iter_mut().for_each(|output| own(&mut output.data));
            let mut entry = Entry::of(response);
            if !self.keeps_parameters {
                entry.parameters.clear();
            }
            self.cache.insert(self.key, entry);
            if let Some(cache) = &mut times.cache {
                cache.duration += start.elapsed();
            }
        }
        self.inner.deliver(answer, &times);
    }
}
