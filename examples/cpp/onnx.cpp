/// yolox_onnx: the programs' command line (see program.hpp) on ONNX Runtime.

#include <onnxruntime_cxx_api.h>

#include <memory>

#include "program.hpp"

namespace {

example::Infer open_model(const example::fs::path& folder, const yolox::Spec& spec) {
    const auto env = std::make_shared<Ort::Env>(ORT_LOGGING_LEVEL_WARNING, "yolox");
    const example::fs::path path = folder / "model.onnx";
    const auto session = std::make_shared<Ort::Session>(*env, path.c_str(), Ort::SessionOptions{});
    const auto type = spec.uint8_input ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    bool sound = session->GetInputCount() == 1 && session->GetOutputCount() == 1;
    if (sound) {
        const Ort::TypeInfo input = session->GetInputTypeInfo(0), output = session->GetOutputTypeInfo(0);
        const auto taken = input.GetTensorTypeAndShapeInfo(), given = output.GetTensorTypeAndShapeInfo();
        sound = taken.GetElementType() == type && given.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT &&
                yolox::Spec::fits(taken.GetShape(), spec.input_shape()) &&
                yolox::Spec::fits(given.GetShape(), spec.output_shape());
    }
    if (!sound) throw yolox::Error(path.string() + " is not what its spec.json says.");
    std::vector<std::int64_t> shape;
    for (const std::size_t side : spec.input_shape()) shape.push_back(static_cast<std::int64_t>(side));
    const std::size_t bytes = (spec.uint8_input ? 1 : sizeof(float)) * 3 * static_cast<std::size_t>(spec.height) *
                              static_cast<std::size_t>(spec.width);

    return [env, session, type, shape, bytes](const yolox::Input& input) {
        Ort::AllocatorWithDefaultOptions allocator;
        const auto input_name = session->GetInputNameAllocated(0, allocator);
        const auto output_name = session->GetOutputNameAllocated(0, allocator);
        const char *inputs = input_name.get(), *outputs = output_name.get();
        const auto memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeCPU);
        const Ort::Value images = Ort::Value::CreateTensor(memory, const_cast<void*>(input.data()), bytes, shape.data(),
                                                           shape.size(), type);  // which it only reads
        const auto given = session->Run(Ort::RunOptions{nullptr}, &inputs, &images, 1, &outputs, 1);
        const auto* values = given[0].GetTensorData<float>();
        return std::vector<float>(values, values + given[0].GetTensorTypeAndShapeInfo().GetElementCount());
    };
}

}  // namespace

int main(int count, char** arguments) { return example::run({arguments + 1, arguments + count}, open_model); }
