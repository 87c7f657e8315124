/// What the three programs share: their command line, PPM images, and the conformance kit.
///
///     PROGRAM ARTIFACT IMAGE.ppm...        one line of JSON a detection
///     PROGRAM ARTIFACT --kit KIT RESULTS   what `yolox-deploy kit-score KIT RESULTS` scores; KIT was written
///                                          from ARTIFACT by `yolox-deploy kit ARTIFACT --output KIT`
#pragma once

#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "yolox.hpp"

namespace example {

namespace fs = std::filesystem;

/// Runs the network on one image; returns its output.
using Infer = std::function<std::vector<float>(const yolox::Input&)>;

/// Opens the model in an artifact's folder.
using OpenModel = std::function<Infer(const fs::path& folder, const yolox::Spec& spec)>;

/// Everything in a file of numbers.
template <typename T>
std::vector<T> read_numbers(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw yolox::Error("cannot read " + path.string() + ".");
    std::vector<T> values(fs::file_size(path) / sizeof(T));
    file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
    return values;
}

template <typename T>
void write_numbers(const fs::path& path, const std::vector<T>& values) {
    std::ofstream file(path, std::ios::binary);
    const auto bytes = static_cast<std::streamsize>(values.size() * sizeof(T));
    file.write(reinterpret_cast<const char*>(values.data()), bytes);
    if (!file.flush()) throw yolox::Error("cannot write " + path.string() + ".");
}

/// An image and its memory: blue, green, red, row by row.
struct Picture {
    std::vector<std::uint8_t> pixels;
    int height = 0, width = 0;

    yolox::Image view() const { return {pixels.data(), height, width}; }
};

/// A binary PPM file of 8 bits (P6), without comments. With OpenCV in your app, cv::imread reads what people have.
inline Picture read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw yolox::Error("cannot read " + path + ".");
    std::string magic;
    int width = 0, height = 0, most = 0;
    file >> magic >> width >> height >> most;
    file.get();  // the one white space before the pixels
    const bool sound = magic == "P6" && most == 255 && width > 0 && height > 0 && width <= 32768 && height <= 32768;
    const std::size_t bytes = std::size_t{3} * static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
    if (!sound || fs::file_size(path) < bytes)  // before memory is taken
        throw yolox::Error(path + " is no whole binary PPM of 8 bits: convert IMAGE -depth 8 IMAGE.ppm makes one.");
    Picture picture{std::vector<std::uint8_t>(bytes), height, width};
    if (!file.read(reinterpret_cast<char*>(picture.pixels.data()), static_cast<std::streamsize>(bytes)))
        throw yolox::Error(path + " ends too early.");
    for (std::size_t pixel = 0; pixel < bytes; pixel += 3) std::swap(picture.pixels[pixel], picture.pixels[pixel + 2]);
    return picture;
}

/// A picture of the kit, whose size is in kit.json.
inline Picture read_picture(const fs::path& kit, const nlohmann::json& entry) {
    const Picture picture{read_numbers<std::uint8_t>(kit / std::string(entry.at("file"))), entry.at("shape").at(0),
                          entry.at("shape").at(1)};
    if (picture.pixels.size() !=
        std::size_t{3} * static_cast<std::size_t>(picture.height) * static_cast<std::size_t>(picture.width))
        throw yolox::Error(std::string(entry.at("file")) + " of the kit does not hold the pixels that kit.json says.");
    return picture;
}

/// The boxes of a network's output (A, 5 + C) in input pixels, whether or not the graph decoded them.
inline std::vector<float> decoded(std::vector<float> output, const yolox::Spec& spec) {
    yolox::detail::for_each_anchor(spec, [&](std::size_t anchor, int x, int y, int stride) {
        float* value = output.data() + anchor * (5 + spec.num_classes());
        const auto box = yolox::detail::box_of(value, x, y, stride, spec.decoded);
        std::copy(box.begin(), box.end(), value);
    });
    return output;
}

inline void write_rows(const fs::path& path, const std::vector<yolox::Detection>& rows) {
    std::vector<float> values;
    for (const auto& [left, top, right, bottom, score, class_id] : rows)
        values.insert(values.end(), {left, top, right, bottom, score, static_cast<float>(class_id)});
    write_numbers(path, values);
}

/// What each step makes of one case: of its image, or of the output that is given where there is none.
inline void run_case(const fs::path& kit, const nlohmann::json& entry, const nlohmann::json& thresholds,
                     const fs::path& folder, const yolox::Spec& spec, const Infer& infer) {
    const nlohmann::json& files = entry.at("files");
    const char* network_step = spec.decoded ? "decoded" : "output";
    const float score = thresholds.at("score"), nms = thresholds.at("nms");
    double ratio = entry.at("ratio");
    std::vector<float> output;
    fs::create_directories(folder);
    if (files.contains("image")) {
        const Picture picture = read_picture(kit, files.at("image"));
        std::vector<std::uint8_t> canvas = yolox::letterbox(picture.view(), spec, ratio);
        write_numbers(folder / "letterbox.bin", canvas);
        const yolox::Input input = yolox::network_input(std::move(canvas), spec, ratio);
        if (spec.uint8_input) write_numbers(folder / "input.bin", input.bytes);
        else write_numbers(folder / "input.bin", input.floats);
        output = infer(input);
    } else {
        output = read_numbers<float>(kit / std::string(files.at(network_step).at("file")));
    }
    const auto found = yolox::candidates(output.data(), output.size(), ratio, spec, score);
    if (!spec.decoded) write_numbers(folder / "output.bin", output);
    write_numbers(folder / "decoded.bin", decoded(output, spec));
    write_rows(folder / "candidates.bin", found);
    write_rows(folder / "nms.bin", yolox::suppress(found, nms));
    const auto detections = yolox::postprocess(output.data(), output.size(), ratio, spec, score, nms);
    write_rows(folder / "detections.bin", detections);
    if (files.contains("image")) {
        const std::vector<int> shape = files.at("image").at("shape");
        write_rows(folder / "clipped.bin", yolox::clip(detections, shape.at(1), shape.at(0)));
    }
}

inline void run_kit(const fs::path& artifact, const fs::path& kit, const fs::path& results, const yolox::Spec& spec,
                    const Infer& infer) {
    if (spec.nms || spec.topk > 0) throw yolox::Error("a kit is of graphs without NMS and TopK.");
    const nlohmann::json content = yolox::read_json((kit / "kit.json").string());
    nlohmann::json own = yolox::read_json((artifact / "spec.json").string());
    nlohmann::json of_kit = content.value("spec", nlohmann::json::object());
    own.erase("batch"), of_kit.erase("batch");  // a kit is of single images, whatever the graph takes
    if (own != of_kit)
        throw yolox::Error(kit.string() + " is of another model: yolox-deploy kit " + artifact.string() +
                           " --output NEW_KIT writes one of this.");
    try {
        for (const nlohmann::json& entry : content.at("cases"))
            run_case(kit, entry, content.at("thresholds"), results / std::string(entry.at("name")), spec, infer);
    } catch (const nlohmann::json::exception& error) {
        throw yolox::Error(kit.string() + "/kit.json is damaged: " + error.what() + ".");
    }
}

/// Detect in one image file, and print a line a detection.
inline void detect(const std::string& path, const yolox::Spec& spec, const Infer& infer) {
    const Picture picture = read_ppm(path);
    const yolox::Input input = yolox::preprocess(picture.view(), spec);
    const std::vector<float> output = infer(input);
    const auto found = yolox::postprocess(output.data(), output.size(), input.ratio, spec);
    for (const auto& [left, top, right, bottom, score, class_id] :
         yolox::clip(found, picture.width, picture.height)) {
        const nlohmann::ordered_json line{{"image", path},
                                          {"class", spec.class_names[static_cast<std::size_t>(class_id)]},
                                          {"score", score},
                                          {"box", {left, top, right, bottom}}};
        std::cout << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    }
}

/// The whole program but for its backend. Returns the exit code: 1 with one sentence where something cannot be used.
inline int run(const std::vector<std::string>& arguments, const OpenModel& open_model) {
    try {
        const bool kit = arguments.size() == 4 && arguments[1] == "--kit";
        if (arguments.size() < 2 || (arguments[1] == "--kit" && !kit))
            throw yolox::Error("usage: PROGRAM ARTIFACT IMAGE.ppm... | PROGRAM ARTIFACT --kit KIT RESULTS");
        const fs::path folder = arguments[0];
        const yolox::Spec spec = yolox::read_spec((folder / "spec.json").string());
        const Infer infer = open_model(folder, spec);
        if (kit) {
            run_kit(folder, arguments[2], arguments[3], spec, infer);
        } else {
            for (auto path = arguments.begin() + 1; path != arguments.end(); ++path) detect(*path, spec, infer);
        }
        return 0;
    } catch (const std::exception& error) {
        const std::string text = error.what();  // of which backends write several lines
        std::cerr << "error: " << text.substr(0, text.find('\n')) << '\n';
        return 1;
    }
}

}  // namespace example
