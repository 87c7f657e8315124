/// yolox_ncnn: the programs' command line (see program.hpp) on NCNN.

#include <cstring>
#include <memory>

#include <net.h>

#include "program.hpp"

namespace {

example::Infer open_model(const example::fs::path& folder, const yolox::Spec& spec) {
    if (spec.decoded || spec.uint8_input)
        throw yolox::Error("the spec promises more than NCNN files hold: float input, boxes not decoded.");
    const auto net = std::make_shared<ncnn::Net>();
    // NCNN's defaults differ from processor to processor.
    ncnn::Option& options = net->opt;
    options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = false;
    options.use_vulkan_compute = options.use_bf16_storage = false;
    const std::string start = (folder / "model.").string();
    if (net->load_param((start + "param").c_str()) != 0 || net->load_model((start + "bin").c_str()) != 0)
        throw yolox::Error("NCNN cannot load " + start + "param.");

    return [net, spec](const yolox::Input& input) {
        ncnn::Mat image(spec.width, spec.height, 3), output;  // each plane of a Mat begins at a multiple of 16 bytes
        const std::size_t plane = static_cast<std::size_t>(spec.width) * static_cast<std::size_t>(spec.height);
        for (int channel = 0; channel < 3; ++channel)
            std::memcpy(image.channel(channel), &input.floats[static_cast<std::size_t>(channel) * plane],
                        plane * sizeof(float));
        ncnn::Extractor extractor = net->create_extractor();
        if (extractor.input("in0", image) != 0 || extractor.extract("out0", output) != 0)
            throw yolox::Error("NCNN could not run " + spec.name + ".");
        const std::size_t anchors = spec.num_anchors(), values = 5 + spec.num_classes();
        if (output.dims != 2 || output.w != static_cast<int>(anchors) || output.h != static_cast<int>(values))
            throw yolox::Error("the model of " + spec.name + " is not what its spec.json says.");
        std::vector<float> turned(anchors * values);  // from (5 + C, A) to (A, 5 + C)
        for (std::size_t value = 0; value < values; ++value)
            for (std::size_t anchor = 0; anchor < anchors; ++anchor)
                turned[anchor * values + value] = output.row(static_cast<int>(value))[anchor];
        return turned;
    };
}

}  // namespace

int main(int count, char** arguments) { return example::run({arguments + 1, arguments + count}, open_model); }
