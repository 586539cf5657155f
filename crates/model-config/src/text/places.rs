//! Where the fields of a configuration stand, and which of them a message is about.

use std::ops::Range;

/// The fields and strings of a text in the order they were met.
#[derive(Debug, Default)]
pub struct Places {
    fields: Vec<Field>,
    strings: Vec<Text>,
    /// The message that is being read, and how many there were.
    inside: usize,
    messages: usize,
}

#[derive(Debug)]
struct Field {
    name: String,
    /// From its name to the end of its value.
    span: Range<usize>,
    inside: usize,
}

#[derive(Debug)]
struct Text {
    value: String,
    span: Range<usize>,
    inside: usize,
}

impl Places {
    /// Notes a field and returns its number, for [`Self::ends`].
    pub(super) fn field(&mut self, name: &str) -> usize {
        self.fields.push(Field { name: name.to_owned(), span: 0..0, inside: self.inside });
        self.fields.len() - 1
    }

    pub(super) fn ends(&mut self, field: usize, span: Range<usize>) {
        self.fields[field].span = span;
    }

    pub(super) fn string(&mut self, value: &str, span: Range<usize>) {
        self.strings.push(Text { value: value.to_owned(), span, inside: self.inside });
    }

    /// Goes into a message; returns where to come back to.
    pub(super) fn enter(&mut self) -> usize {
        self.messages += 1;
        std::mem::replace(&mut self.inside, self.messages)
    }

    pub(super) fn leave(&mut self, outside: usize) {
        self.inside = outside;
    }

    /// The field of this name that stands first.
    pub fn named(&self, field: &str) -> Option<Range<usize>> {
        self.fields.iter().find(|known| known.name == field).map(|field| field.span.clone())
    }

    /// The place that a message about the model `model` means, as far as its words tell: the field
    /// that it names beside the string that it names, or either of the two.
    pub fn meant_by(&self, message: &str, model: &str) -> Option<Range<usize>> {
        let Some(subject) = self.subject(message, model) else {
            return self.field_in(message, |_| true).map(|field| field.span.clone());
        };
        // A field at the top is no neighbour of the configuration's own strings.
        let beside = |field: &Field| field.inside == subject.inside && subject.inside > 0;
        let field = self.field_in(message, beside);
        Some(field.map_or(&subject.span, |field| &field.span).clone())
    }

    /// The first word of the message that the text has as a string.
    fn subject(&self, message: &str, model: &str) -> Option<&Text> {
        // What does not exist elsewhere is what was misspelt here.
        let message = message.split_once("non-existing ").map_or(message, |(_, tail)| tail);
        let find = |word: &str, top: bool| {
            let fits = |text: &&Text| text.value == word && (top || text.inside > 0);
            self.strings.iter().find(fits).filter(|_| word != model && !word.is_empty())
        };
        let quoted = message.split('\'').skip(1).step_by(2).find_map(|word| find(word, true));
        // Without quotes it may be a word like any other, such as the name of a platform.
        let plain = message.split_whitespace();
        let plain = plain.map(|word| word.trim_matches(['\'', '"', ',', '.', ':', ';']));
        quoted.or_else(|| plain.into_iter().find_map(|word| find(word, false)))
    }

    /// The field with the longest name that occurs in the message.
    fn field_in(&self, message: &str, of: impl Fn(&Field) -> bool) -> Option<&Field> {
        let spaced = message.to_ascii_lowercase().replace(['_', '-'], " ");
        let spaced = spaced.replace("dimension", "dim").replace("datatype", "data type");
        let occurs = |name: &str| {
            // Messages speak of one of several, or of all.
            let name = name.replace('_', " ");
            let name = name.trim_end_matches('s');
            spaced.match_indices(name).any(|(at, _)| {
                let whole = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric());
                whole(spaced[..at].chars().next_back())
                    && whole(spaced[at + name.len()..].trim_start_matches('s').chars().next())
            })
        };
        let fields = self.fields.iter().filter(|field| of(field) && occurs(&field.name));
        // Of equals the first.
        fields.rev().max_by_key(|field| field.name.len())
    }
}

#[cfg(test)]
mod tests {
    use crate::text::read;

    #[test]
    fn messages_lead_to_what_they_name() {
        let text = "name: 'm' max_batch_size: -1 input [ { name: 'A' dims: [ 0 ] }, \
                    { name: 'B' data_type: TYPE_FP32 dims: [ 2, 0 ] } ] \
                    instance_group { kind: KIND_GPU } version_policy: { latest { } }";
        let (_, places) = read(text).unwrap();
        for (message, expected) in [
            ("'max_batch_size' must be non-negative value for m", Some("max_batch_size: -1")),
            ("model input 'B' dimension must be >= 1 for m", Some("dims: [ 2, 0 ]")),
            ("model input 'A' must specify 'data_type' for m", Some("'A'")),
            ("instance group m_0 of model m", Some("instance_group { kind: KIND_GPU }")),
            ("must specify 'version policy' for m", Some("version_policy: { latest { } }")),
            ("something else is wrong with 'm'", None),
        ] {
            let found = places.meant_by(message, "m").map(|span| &text[span]);
            assert_eq!(found, expected, "{message}");
        }
    }
}
