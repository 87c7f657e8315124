/// yolox_openvino: the programs' command line (see program.hpp) on OpenVINO.

#include <openvino/runtime/core.hpp>

#include "program.hpp"

namespace {

/// The sides of a graph's shape, -1 where it does not fix one.
std::vector<std::int64_t> sides(const ov::PartialShape& shape) {
    std::vector<std::int64_t> all;
    if (shape.rank().is_static())
        for (const ov::Dimension& side : shape) all.push_back(side.is_static() ? side.get_length() : -1);
    return all;
}

/// OpenVINO's own message has several lines, the first of which names a line of its source.
std::shared_ptr<ov::Model> read(ov::Core& core, const std::string& path) {
    try {
        return core.read_model(path);
    } catch (const ov::Exception&) {
        throw yolox::Error("OpenVINO cannot read " + path + ": it is missing or damaged.");
    }
}

example::Infer open_model(const example::fs::path& folder, const yolox::Spec& spec) {
    ov::Core core;
    const std::string path = (folder / "model.xml").string();
    const auto model = read(core, path);
    const ov::element::Type type = spec.uint8_input ? ov::element::u8 : ov::element::f32;
    if (model->inputs().size() != 1 || model->outputs().size() != 1 || model->input().get_element_type() != type ||
        !yolox::Spec::fits(sides(model->input().get_partial_shape()), spec.input_shape()) ||
        !yolox::Spec::fits(sides(model->output().get_partial_shape()), spec.output_shape()))
        throw yolox::Error(path + " is not what its spec.json says.");
    // OpenVINO's own choice is bf16 where the processor has it, which detects other things.
    auto compiled = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32),
                                       ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY));
    return [compiled, request = compiled.create_infer_request(), type,
            shape = spec.input_shape()](const yolox::Input& input) mutable {
        request.set_input_tensor(ov::Tensor(type, shape, const_cast<void*>(input.data())));  // which it only reads
        request.infer();
        const ov::Tensor output = request.get_output_tensor();
        const auto* values = output.data<const float>();
        return std::vector<float>(values, values + output.get_size());
    };
}

}  // namespace

int main(int count, char** arguments) { return example::run({arguments + 1, arguments + count}, open_model); }
