//! A C interface to TorchScript, compiled on the machine that runs it against the libtorch there.
//!
//! Nothing thrown leaves these functions: an error comes back as text, which the caller frees with
//! nereid_free; a null pointer is success. Tensors handed in are borrowed for the call; tensors
//! handed out live until nereid_outputs_free. `src/ffi.rs` declares the same structs.

#include <torch/script.h>

#include <ATen/Parallel.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/passes/tensorexpr_fuser.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/runtime/graph_iterator.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

// Numbers of c10::ScalarType, and two more.
constexpr int32_t kStrings = -1;  // Triton's BYTES: each element its length (u32) and its bytes
constexpr int32_t kAbsent = -2;   // an input that was not sent: None

extern "C" {
struct NereidTensor {
  const void* data;
  int64_t bytes;
  const int64_t* shape;
  const char* name;  // inputs only: the key, for modules that take a dict
  int32_t ndim;
  int32_t type;
  int32_t copy;  // inputs only: the module may write to it, and the memory is only borrowed
};

struct NereidOptions {
  int32_t inference_mode;
  int32_t optimized;
  int32_t dict_input;
  // -1 leaves libtorch's default.
  int32_t jit_profiling;
  int32_t jit_executor;
  int32_t tensor_fuser;
};
}

namespace {

using torch::jit::Module;

struct Output {
  at::Tensor tensor;
  bool is_strings = false;
  std::string strings;
  std::vector<int64_t> shape;
};

struct Outputs {
  std::vector<Output> items;
};

char* text(const std::string& message) {
  char* copy = static_cast<char*>(std::malloc(message.size() + 1));
  if (copy != nullptr) std::memcpy(copy, message.c_str(), message.size() + 1);
  return copy;
}

// Runs `body`; whatever it throws comes back as text.
template <typename Body>
char* guarded(Body body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return text(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return text(error.what());
  } catch (...) {
    return text("unknown C++ exception");
  }
}

c10::List<std::string> read_strings(const NereidTensor& input) {
  c10::List<std::string> strings;
  const char* rest = static_cast<const char*>(input.data);
  const char* end = rest + input.bytes;
  while (rest != end) {
    uint32_t length = 0;
    if (end - rest < 4) throw std::runtime_error("truncated string in an input");
    std::memcpy(&length, rest, 4);
    rest += 4;
    if (end - rest < static_cast<int64_t>(length)) {
      throw std::runtime_error("truncated string in an input");
    }
    strings.push_back(std::string(rest, length));
    rest += length;
  }
  return strings;
}

at::Tensor read_tensor(const NereidTensor& input) {
  at::IntArrayRef shape(input.shape, static_cast<size_t>(input.ndim));
  auto type = static_cast<c10::ScalarType>(input.type);
  auto options = at::TensorOptions().dtype(type);
  // from_blob takes no empty memory.
  if (input.bytes == 0) return at::empty(shape, options);
  auto address = reinterpret_cast<uintptr_t>(input.data);
  if (input.copy == 0 && address % c10::elementSize(type) == 0) {
    return torch::from_blob(const_cast<void*>(input.data), shape, options);
  }
  at::Tensor copy = at::empty(shape, options);
  std::memcpy(copy.data_ptr(), input.data, static_cast<size_t>(input.bytes));
  return copy;
}

c10::IValue read_input(const NereidTensor& input) {
  if (input.type == kAbsent) return c10::IValue();
  if (input.type == kStrings) return read_strings(input);
  return read_tensor(input);
}

std::vector<c10::IValue> read_inputs(const NereidTensor* inputs, int32_t count, bool as_dict) {
  std::vector<c10::IValue> arguments;
  if (!as_dict) {
    for (int32_t i = 0; i < count; ++i) arguments.push_back(read_input(inputs[i]));
    return arguments;
  }
  c10::Dict<std::string, at::Tensor> dict;
  for (int32_t i = 0; i < count; ++i) {
    if (inputs[i].type == kAbsent) continue;
    if (inputs[i].type == kStrings) throw std::runtime_error("a dict input takes no strings");
    dict.insert(inputs[i].name, read_tensor(inputs[i]));
  }
  arguments.push_back(dict);
  return arguments;
}

Output strings_output(const std::vector<std::string>& strings) {
  Output output;
  output.is_strings = true;
  output.shape.push_back(static_cast<int64_t>(strings.size()));
  for (const std::string& element : strings) {
    auto length = static_cast<uint32_t>(element.size());
    output.strings.append(reinterpret_cast<const char*>(&length), 4);
    output.strings += element;
  }
  return output;
}

Output tensor_output(const at::Tensor& tensor) {
  Output output;
  output.tensor = tensor.to(at::kCPU).contiguous().resolve_conj().resolve_neg();
  if (output.tensor.layout() != at::kStrided || output.tensor.is_quantized()) {
    throw std::runtime_error("a sparse or quantized tensor cannot be an output");
  }
  return output;
}

void collect_element(const c10::IValue& value, Outputs& outputs) {
  if (value.isTensor()) {
    outputs.items.push_back(tensor_output(value.toTensor()));
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) {
      outputs.items.push_back(tensor_output(tensor));
    }
  } else if (value.isList() &&
             value.toList().elementType()->kind() == c10::TypeKind::StringType) {
    std::vector<std::string> strings;
    for (const c10::IValue& element : value.toListRef()) strings.push_back(element.toStringRef());
    outputs.items.push_back(strings_output(strings));
  } else if (value.isString()) {
    outputs.items.push_back(strings_output({value.toStringRef()}));
  } else {
    throw std::invalid_argument(
        "output must be of type Tensor, List[str] or Tuple containing one of these two types. It "
        "should not be a Dictionary of Tensors or a Scalar");
  }
}

void collect(const c10::IValue& value, Outputs& outputs) {
  if (value.isTuple()) {
    const auto tuple = value.toTuple();
    for (const c10::IValue& element : tuple->elements()) collect_element(element, outputs);
  } else {
    collect_element(value, outputs);
  }
}

// An output that shares its memory with an input, with the module or with another output must not
// be handed out: the one is only borrowed, the others may be written to by a later run. Sharing is
// either another tensor over the same storage or another reference to the same tensor, and what
// the run itself held is gone by now.
void own_memory(Outputs& outputs) {
  for (Output& output : outputs.items) {
    if (output.is_strings) continue;
    if (output.tensor.use_count() > 1 || output.tensor.storage().use_count() > 1) {
      output.tensor = output.tensor.clone();
    }
  }
}

std::shared_ptr<torch::jit::Graph> forward_graph(Module& module) {
  auto graph = torch::jit::toGraphFunction(module.get_method("forward").function()).graph()->copy();
  torch::jit::Inline(*graph);
  return graph;
}

bool sets_attributes(std::shared_ptr<torch::jit::Graph> graph) {
  torch::jit::DepthFirstGraphNodeIterator nodes(graph);
  while (torch::jit::Node* node = nodes.next()) {
    // A call that was not inlined (an interface, a recursion) may hide one.
    auto kind = node->kind();
    if (kind == c10::prim::SetAttr || kind == c10::prim::CallMethod) return true;
  }
  return false;
}

// See nereid_describe.
std::string describe(Module& module) {
  const auto& arguments = module.get_method("forward").function().getSchema().arguments();
  bool own = true;
  std::vector<bool> written(arguments.size(), true);
  try {
    auto graph = forward_graph(module);
    own = module.is_training() || sets_attributes(graph);
    torch::jit::AliasDb aliases(graph);
    for (size_t i = 0; i < arguments.size() && i < graph->inputs().size(); ++i) {
      written[i] = aliases.hasWriters(graph->inputs()[i]);
    }
  } catch (const std::exception&) {
    // What cannot be analysed is treated as the worst case.
  }
  bool dict = arguments.size() == 2 && arguments[1].type()->kind() == c10::TypeKind::DictType;
  std::string description = std::string(own ? "own" : "shared") + (dict ? " dict" : " plain");
  for (size_t i = 1; i < arguments.size(); ++i) {
    bool writes = dict || written[i];
    description += "\n" + std::string(writes ? "written " : "read ") + arguments[i].name();
  }
  return description;
}

// Switches that libtorch keeps for the process or the thread: set before each run, as Triton does.
void apply(const NereidOptions& options) {
  torch::jit::setGraphExecutorOptimize(options.optimized != 0);
  if (options.jit_profiling >= 0) torch::jit::getProfilingMode() = options.jit_profiling != 0;
  if (options.jit_executor >= 0) torch::jit::getExecutorMode() = options.jit_executor != 0;
  if (options.tensor_fuser >= 0) {
    torch::jit::setTensorExprFuserEnabled(options.tensor_fuser != 0);
  }
}

}  // namespace

extern "C" {

void nereid_free(void* memory) { std::free(memory); }

char* nereid_load(const char* path, int32_t inference_mode, void** module) {
  return guarded([&] {
    c10::InferenceMode guard(inference_mode != 0);
    // The device is named because a module that was saved on a GPU would ask for it. The mode,
    // training or evaluation, stays as it was saved.
    *module = new Module(torch::jit::load(std::string(path), c10::Device(c10::kCPU)));
  });
}

void nereid_unload(void* module) {
  char* error = guarded([&] { delete static_cast<Module*>(module); });
  std::free(error);
}

// First line: "own" or "shared" (whether runs change the module), "dict" or "plain" (how it takes
// its inputs). Then a line for each argument: "written" or "read" (by the module), and its name.
char* nereid_describe(void* module, char** description) {
  return guarded([&] { *description = text(describe(*static_cast<Module*>(module))); });
}

char* nereid_forward(void* module, const NereidOptions* options, const NereidTensor* inputs,
                     int32_t count, void** outputs, int32_t* output_count) {
  return guarded([&] {
    apply(*options);
    c10::InferenceMode inference(options->inference_mode != 0);
    torch::NoGradGuard no_grad;
    auto arguments = read_inputs(inputs, count, options->dict_input != 0);
    auto collected = std::unique_ptr<Outputs>(new Outputs());
    // `arguments` stays alive beside the copy that the module gets: see own_memory.
    collect(static_cast<Module*>(module)->forward(arguments), *collected);
    own_memory(*collected);
    *output_count = static_cast<int32_t>(collected->items.size());
    *outputs = collected.release();
  });
}

void nereid_output(void* outputs, int32_t index, NereidTensor* tensor) {
  const Output& output = static_cast<Outputs*>(outputs)->items[static_cast<size_t>(index)];
  if (output.is_strings) {
    *tensor = {output.strings.data(), static_cast<int64_t>(output.strings.size()),
               output.shape.data(), nullptr, 1, kStrings, 0};
    return;
  }
  const at::Tensor& found = output.tensor;
  *tensor = {found.data_ptr(), static_cast<int64_t>(found.nbytes()), found.sizes().data(), nullptr,
             static_cast<int32_t>(found.dim()), static_cast<int32_t>(found.scalar_type()), 0};
}

void nereid_outputs_free(void* outputs) {
  char* error = guarded([&] { delete static_cast<Outputs*>(outputs); });
  std::free(error);
}

// Zero leaves a number as it is.
char* nereid_threads(int32_t intra_op, int32_t inter_op) {
  return guarded([&] {
    if (intra_op > 0) at::set_num_threads(intra_op);
    if (inter_op > 0) at::set_num_interop_threads(inter_op);
  });
}

}  // extern "C"
