// A C interface to TorchScript, compiled on the machine that runs it against the libtorch there.
//
// Nothing thrown leaves these functions: an error comes back as text, which the caller frees with
// nereid_free. Tensors handed in are borrowed for the call; tensors handed out live until
// nereid_outputs_free.

#include <torch/script.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

char* text(const std::string& message) {
  char* copy = static_cast<char*>(std::malloc(message.size() + 1));
  std::memcpy(copy, message.c_str(), message.size() + 1);
  return copy;
}

struct Outputs {
  std::vector<at::Tensor> tensors;
};

void collect(const c10::IValue& value, Outputs& outputs) {
  if (value.isTensor()) {
    outputs.tensors.push_back(value.toTensor().to(at::kCPU).contiguous());
  } else if (value.isTuple()) {
    for (const auto& element : value.toTuple()->elements()) collect(element, outputs);
  } else if (value.isTensorList()) {
    for (const at::Tensor& element : value.toTensorVector()) collect(element, outputs);
  } else if (value.isList()) {
    for (const auto& element : value.toListRef()) collect(element, outputs);
  } else {
    throw std::runtime_error("the model returned a value of type " + value.tagKind() +
                             ", expected tensors");
  }
}

}  // namespace

extern "C" {

struct NereidTensor {
  void* data;
  int32_t scalar_type;  // c10::ScalarType
  int32_t ndim;
  const int64_t* shape;
};

void nereid_free(void* memory) { std::free(memory); }

char* nereid_load(const char* path, void** module) {
  try {
    // The device is named because a module that was saved on a GPU would ask for it.
    auto loaded = torch::jit::load(path, c10::Device(c10::kCPU));
    loaded.eval();
    *module = new torch::jit::Module(std::move(loaded));
    return nullptr;
  } catch (const std::exception& error) {
    return text(error.what());
  }
}

void nereid_unload(void* module) { delete static_cast<torch::jit::Module*>(module); }

// Names of the arguments of forward, without self, one per line.
char* nereid_arguments(void* module) {
  try {
    std::string names;
    const auto& schema = static_cast<torch::jit::Module*>(module)->get_method("forward").function().getSchema();
    for (size_t i = 1; i < schema.arguments().size(); ++i) names += schema.arguments()[i].name() + "\n";
    return text(names);
  } catch (const std::exception&) {
    return text("");
  }
}

char* nereid_forward(void* module, const NereidTensor* inputs, int32_t count, void** outputs,
                     int32_t* output_count) {
  try {
    c10::InferenceMode guard;
    std::vector<c10::IValue> arguments;
    for (int32_t i = 0; i < count; ++i) {
      at::IntArrayRef shape(inputs[i].shape, inputs[i].ndim);
      auto type = static_cast<c10::ScalarType>(inputs[i].scalar_type);
      arguments.emplace_back(torch::from_blob(inputs[i].data, shape, at::TensorOptions().dtype(type)));
    }
    auto collected = std::make_unique<Outputs>();
    collect(static_cast<torch::jit::Module*>(module)->forward(std::move(arguments)), *collected);
    // An output may be an input passed through, whose memory is only borrowed.
    for (at::Tensor& tensor : collected->tensors) {
      for (int32_t i = 0; i < count; ++i) {
        if (tensor.storage().data() == inputs[i].data) tensor = tensor.clone();
      }
    }
    *output_count = static_cast<int32_t>(collected->tensors.size());
    *outputs = collected.release();
    return nullptr;
  } catch (const std::exception& error) {
    return text(error.what());
  }
}

void nereid_output(void* outputs, int32_t index, NereidTensor* tensor, int64_t* bytes) {
  const at::Tensor& found = static_cast<Outputs*>(outputs)->tensors[index];
  tensor->data = found.data_ptr();
  tensor->scalar_type = static_cast<int32_t>(found.scalar_type());
  tensor->ndim = static_cast<int32_t>(found.dim());
  tensor->shape = found.sizes().data();
  *bytes = static_cast<int64_t>(found.nbytes());
}

void nereid_outputs_free(void* outputs) { delete static_cast<Outputs*>(outputs); }

void nereid_threads(int32_t count) { at::set_num_threads(count); }
}
