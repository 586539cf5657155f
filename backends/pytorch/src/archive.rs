//! What a TorchScript file says about its `forward`, read without libtorch: the file is a ZIP
//! archive with the module's code in Python's syntax.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nereid_inference::{Error, Result};

/// The arguments of `forward`, without `self`, and what it returns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) arguments: Vec<Argument>,
    /// How many values; `None` where the code leaves that open.
    pub(crate) results: Option<usize>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    pub(crate) name: String,
    /// As TorchScript writes it: `Tensor`, `List[str]`, `Dict[str, Tensor]`.
    pub(crate) kind: String,
    pub(crate) optional: bool,
}

impl Forward {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let place = path.display();
        let file = File::open(path)
            .map_err(|error| Error::unavailable(format!("cannot read {place}: {error}")))?;
        let not = |reason: &str| {
            Error::invalid_arg(format!("{place} is not a TorchScript model: {reason}"))
        };
        let mut archive = zip::ZipArchive::new(file).map_err(|error| not(&error.to_string()))?;
        let pickle = entry(&mut archive, "/data.pkl").ok_or_else(|| not("it has no data.pkl"))?;
        let (module, class) = root_class(&pickle)
            .ok_or_else(|| not("it holds no module; save it with torch.jit.save"))?;
        let code = entry(&mut archive, &format!("/code/{}.py", module.replace('.', "/")))
            .and_then(|code| String::from_utf8(code).ok())
            .ok_or_else(|| not("it has no code; save it with torch.jit.save"))?;
        parse(&code, &class).ok_or_else(|| not("its module has no method 'forward'"))
    }
}

/// The contents of the entry whose name ends so: a folder of any name is around all of them.
fn entry(archive: &mut zip::ZipArchive<File>, end: &str) -> Option<Vec<u8>> {
    let name = archive.file_names().find(|name| {
        name.split_once('/').is_some_and(|(_, inner)| inner == end.trim_start_matches('/'))
    })?;
    let name = name.to_owned();
    let mut contents = Vec::new();
    archive.by_name(&name).ok()?.read_to_end(&mut contents).ok()?;
    Some(contents)
}

/// The class of the module: the first that the pickle names, as `c<module>\n<class>\n`.
fn root_class(pickle: &[u8]) -> Option<(String, String)> {
    const TORCH: &[u8] = b"c__torch__";
    let start = pickle.windows(TORCH.len()).position(|window| window == TORCH)? + 1;
    let mut lines = pickle[start..].split(|byte| *byte == b'\n');
    let text = |line: &[u8]| String::from_utf8(line.to_vec()).ok();
    Some((text(lines.next()?)?, text(lines.next()?)?))
}

fn parse(code: &str, class: &str) -> Option<Forward> {
    let body = &code[code.find(&format!("class {class}("))?..];
    // The next class ends this one.
    let body = &body[..body[1..].find("\nclass ").map_or(body.len(), |end| end + 1)];
    let after = body.split_once("def forward(")?.1;
    let close = matching(after)?;
    let result = after[close + 1..].split_once("->")?.1;
    let result = result[..line_end(result)].trim().trim_end_matches(':');
    let arguments = split(&after[..close]).into_iter().skip(1).filter_map(argument).collect();
    Some(Forward { arguments, results: results(result) })
}

fn argument(text: &str) -> Option<Argument> {
    let (name, kind) = text.split_once(':')?;
    let (kind, default) = kind.split_once('=').map_or((kind, None), |(k, d)| (k, Some(d)));
    let kind = kind.trim();
    let optional = default.is_some() || kind.starts_with("Optional[");
    Some(Argument { name: name.trim().to_owned(), kind: kind.to_owned(), optional })
}

fn results(kind: &str) -> Option<usize> {
    if let Some(inner) = kind.strip_prefix("Tuple[").and_then(|kind| kind.strip_suffix(']')) {
        return Some(split(inner).len());
    }
    (kind == "Tensor" || kind == "List[str]").then_some(1)
}

/// Where the bracket that was opened before the text is closed.
fn matching(text: &str) -> Option<usize> {
    let mut depth = 1;
    text.char_indices().find_map(|(at, c)| {
        depth += match c {
            '(' | '[' => 1,
            ')' | ']' => -1,
            _ => 0,
        };
        (depth == 0).then_some(at)
    })
}

/// The end of a signature: the colon of the `def`, which no bracket is around.
fn line_end(text: &str) -> usize {
    text.find(":\n").unwrap_or(text.len())
}

/// The parts between the commas that no bracket is around.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read_from_code() {
        let code = "class Inner(Module):\n  def forward(self: __torch__.Inner,\n    x: Tensor) -> \
                    Tensor:\n    return x\nclass Two(Module):\n  __parameters__ = []\n  def \
                    forward(self: __torch__.Two,\n    image: Tensor,\n    sizes: Optional[List[int]]\
                    =None) -> Tuple[Tensor, Dict[str, Tensor]]:\n    return 1\n";
        let argument = |name: &str, kind: &str, optional| Argument {
            name: name.to_owned(),
            kind: kind.to_owned(),
            optional,
        };
        let two = parse(code, "Two").unwrap();
        let expected =
            [argument("image", "Tensor", false), argument("sizes", "Optional[List[int]]", true)];
        assert_eq!(two.arguments, expected);
        assert_eq!(two.results, Some(2));
        let inner = parse(code, "Inner").unwrap();
        assert_eq!((inner.arguments.len(), inner.results), (1, Some(1)));
        assert_eq!(parse(code, "Absent"), None);
    }

    #[test]
    fn the_class_is_found_in_the_pickle() {
        let pickle = b"\x80\x02c__torch__.a.b\nNet\nq\x00)\x81}";
        assert_eq!(root_class(pickle), Some(("__torch__.a.b".into(), "Net".into())));
        assert_eq!(root_class(b"\x80\x02}q\x00."), None);
    }
}
