//! What clients do in a scenario.

use nereid_inference::{
    Answer, DataType, Request, Responder, ResponseSink, SEQUENCE_END, SEQUENCE_START, Tensor, Times,
};

pub(super) struct Ignore;

impl ResponseSink for Ignore {
    fn deliver(&mut self, _: Answer, _: &Times) {}
}

/// Something that a client does, such as `20 b rows=2 priority=1` or `30 cancel b`.
pub(super) struct Event {
    pub(super) at_ms: u64,
    pub(super) words: Vec<String>,
}

impl Event {
    pub(super) fn parse(line: &str) -> Self {
        let mut words = line.split_whitespace().map(str::to_owned);
        Self { at_ms: words.next().unwrap().parse().unwrap(), words: words.collect() }
    }

    pub(super) fn value(&self, key: &str) -> Option<u64> {
        let found = self.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        found.map(|value| value.parse().unwrap())
    }

    pub(super) fn says(&self, word: &str) -> bool {
        self.words[1..].iter().any(|other| other == word)
    }

    pub(super) fn request(&self, model: &str, sink: impl ResponseSink + 'static) -> Request {
        let mut request = Request::new(model, None, Responder::new(Box::new(sink)));
        request.id.clone_from(&self.words[0]);
        request.batch_size = self.value("rows").unwrap_or(1) as usize;
        request.priority = self.value("priority").unwrap_or(0);
        request.timeout_us = 1000 * self.value("timeout").unwrap_or(0);
        request.correlation = self.value("sequence").unwrap_or(0).into();
        let flag = |word, flag| if self.says(word) { flag } else { 0 };
        request.flags = flag("start", SEQUENCE_START) | flag("end", SEQUENCE_END);
        let columns = self.value("columns").unwrap_or(1) as i64;
        let tensor = |name: &str| Tensor {
            name: name.to_owned(),
            datatype: DataType::Int32,
            shape: vec![request.batch_size as i64, columns],
            data: vec![0; 4 * request.batch_size * columns as usize].into(),
        };
        request.inputs = vec![tensor("IN")];
        request.inputs.extend(self.says("more").then(|| tensor("MORE")));
        request
    }
}
