//! What to do about a message: a table, since messages keep Triton's words, which do not say it.

/// Part of a message, and the cure; of several that fit the first counts.
const CURES: &[(&str, &str)] = &[
    // The text of the file.
    ("Did you mean", "use the name that is meant"),
    ("has no field named", "see the fields of this message in Triton's model_config.proto"),
    ("Unknown enumeration value", "use one of the names in Triton's model_config.proto"),
    ("is specified multiple times", "keep one of the two"),
    ("another member of oneof", "keep one of the two"),
    ("String literals cannot cross", "close the string on the line it begins"),
    ("Invalid escape sequence", "write a backslash as two"),
    ("not UTF-8", "save the file as UTF-8"),
    ("not valid UTF-8", "save the file as UTF-8"),
    ("end of file", "something that was opened is not closed: count the braces above"),
    ("Expected \":\"", "put a colon between the name and its value"),
    ("Expected \",\" or \"]\"", "put a comma between the elements of the list, or close it"),
    ("Expected \"{\"", "this field is a message: give its fields in braces"),
    ("Expected string", "put the value into quotes"),
    ("Expected integer", "give a number without quotes"),
    ("Expected double", "give a number without quotes"),
    ("Expected \"true\" or", "give true or false, without quotes"),
    ("Expected field name", "remove what stands here, or give it a name"),
    ("Integer out of range", "give a number that fits the field"),
    ("Invalid number", "give a number"),
    // Agents.
    ("Mismatched MD5 hash", "the file is not the one that was meant; or correct its sum"),
    ("Unsupported checksum algorithm", "the key is MD5:<path in the model's folder>"),
    ("failed to parse key", "the key is MD5:<path in the model's folder>"),
    ("unable to find repo agent", "remove it; this server cannot do it"),
    // Folders and files.
    ("directory name must equal", "remove 'name', or rename the folder"),
    (
        "at least one version must be",
        "put the model's file into a folder such as 1/, and let version_policy choose it",
    ),
    ("Permission denied", "make it readable for the user that the server runs as"),
    ("failed to read the labels", "put the file beside config.pbtxt, or remove label_filename"),
    ("initial state of", "put a file of the right size into initial_state/, or say zero_data"),
    ("auto_complete_config", "correct the function, or write the configuration into config.pbtxt"),
    ("unexpected inference input", "use the name of an input of the model"),
    ("model_warmup", "see the inputs of the model: name, type, dims and data of each must fit"),
    // Backends and platforms.
    (
        "must specify 'platform' or 'backend'",
        "add backend: \"onnxruntime\", \"pytorch\" or \"python\", or put a file with its usual name (model.onnx, model.pt, model.py) into the version's folder",
    ),
    ("unexpected platform type", "use backend: instead of platform:"),
    ("unable to find backend library", "this server has onnxruntime, pytorch, python and identity"),
    ("and empty backend type", "remove 'backend': an ensemble has none"),
    // Batching.
    (
        "allows maximum batch size",
        "lower max_batch_size of the ensemble, or raise that of the model",
    ),
    ("'max_batch_size' must be non-negative", "say 0 for a model that does not batch"),
    ("must be <= max batch size", "raise max_batch_size, or remove the size"),
    ("must be positive", "remove the size"),
    ("priority level", "levels count from 1 to priority_levels"),
    ("preserve_ordering", "remove preserve_ordering, or use one level and REJECT"),
    ("Response Cache does not", "remove response_cache"),
    ("not supported yet", "remove it; this version of the server cannot do it"),
    // Sequences.
    ("must have exactly 2 entries", "give two values: one for false, one for true"),
    ("int32_false_true", "give one of them, with two values: one for false, one for true"),
    ("minimum slot utilization", "give a share from 0 to 1"),
    ("multiple CONTROL", "keep one control input of each kind"),
    ("multiple control kinds", "give each control an input of its own"),
    ("control tensor must have a name", "add the name of the model's input"),
    ("Allowed data types are", "add data_type with one of these"),
    (
        "initial_state",
        "give initial_state a name, the type and the dims of its state, all fixed, and zero_data or data_file",
    ),
    // Instances.
    ("KIND_GPU but no GPUs", "say kind: KIND_CPU: models run on the CPU here"),
    (
        "invalid or unsupported gpu id",
        "say kind: KIND_CPU, without gpus: models run on the CPU here",
    ),
    ("specifies one or more GPUs", "remove gpus"),
    ("profile field", "remove profile"),
    // Ensembles.
    ("whose platform is not ensemble", "say platform: \"ensemble\", and no backend"),
    ("whose platform is ensemble", "add ensemble_scheduling with its steps"),
    ("should not be specified for ensemble", "remove it: it belongs to the models of the ensemble"),
    ("can not be specified for ensemble", "remove it: it belongs to the models of the ensemble"),
    ("must specify 'step'", "add a step for each model"),
    ("must specify 'model_name'", "add the name of the model's folder"),
    ("must specify 'input_map'", "map each input of the model to a tensor of the ensemble"),
    ("must specify 'output_map'", "map each output of the model to a tensor of the ensemble"),
    ("only once for", "give each output a tensor of its own"),
    ("is unused in ensemble", "remove it from the output_map, or use it"),
    ("ensemble input '", "map it to an input of a step, or remove it"),
    ("ensemble output '", "map an output of a step to it, or remove it"),
    ("is not connected", "write this tensor in a step, or make it an input"),
    ("not available or ambiguous", "put the model into the repository, or correct the name"),
    ("whose required version", "use model_version: -1 for the newest, or put that version there"),
    ("is mapping to non-existing input", "use the name of an input of the model"),
    ("is mapped from non-existing output", "use the name of an output of the model"),
    (
        "is not mapped to any ensemble tensors",
        "add it to the input_map, or make it optional in the model",
    ),
    ("inconsistent data type", "give both the same type; there are no conversions between steps"),
    (
        "inconsistent shape",
        "give both the same dims, or -1; beware of the dimension that max_batch_size adds",
    ),
    // Tensors.
    ("must specify 'name'", "add name"),
    ("must specify 'data_type'", "add data_type: TYPE_FP32, or what the model takes"),
    (
        "must specify 'dims'",
        "add dims: [ ... ] without the batch dimension; -1 for sizes that vary",
    ),
    ("NHWC/NCHW require 3 dims", "give three dims, or remove format"),
    ("empty reshape", "give shape: [ 1 ]"),
    (
        "reshape",
        "make dims and reshape hold the same number of elements, with each -1 in its place",
    ),
    ("must be integer >= 1", "give -1 for sizes that vary; an empty dimension cannot be"),
    ("TensorRT", "remove it"),
    ("batch input", "see batch_input in Triton's documentation of ragged batching"),
    ("batch output", "see batch_output in Triton's documentation of ragged batching"),
    ("unknown source input", "use the name of an input of the model"),
    ("unknown target output", "use the name of an output of the model"),
    ("failed to convert", "give a value of the kind that the parameter takes"),
];

/// Empty where the message has to speak for itself.
pub(super) fn cure(message: &str) -> &'static str {
    CURES.iter().find(|(part, _)| message.contains(part)).map_or("", |(_, cure)| cure)
}
