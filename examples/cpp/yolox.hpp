/// YOLOX around any backend: spec.json, letterbox, decoding, non-maximum suppression. C++17 and nlohmann-json.
///
///     const yolox::Spec spec = yolox::read_spec("artifacts/yolox-s-openvino-fp32/spec.json");
///     const yolox::Input input = yolox::preprocess({mat.data, mat.rows, mat.cols, mat.step}, spec);
///     // ... run the network on input.data(), which leaves `count` floats at `output` ...
///     const auto found = yolox::postprocess(output, count, input.ratio, spec);
///     for (const yolox::Detection& one : yolox::clip(found, mat.cols, mat.rows)) ...
///
/// What runtimes/preprocess.py and postprocess.py do, one image at a time. Nothing here has state: call it from any
/// thread. What cannot be used ends in a yolox::Error that holds one sentence.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace yolox {

struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// --- what an artifact promises: spec.json

/// Network input of one image: (1, 3, H, W) float, 0 to 255 or normalised, or (1, H, W, 3) bytes where `uint8_input`.
/// Network output: (1, A, 5 + C) float, A anchors in the order of `strides`, row by row: 4 box values, objectness, C
/// class scores. The box is (cx, cy, w, h) in input pixels where `decoded`, raw predictions otherwise. With `nms`,
/// (M, 7): image of the batch, left, top, right, bottom, score, class. With `topk`, (1, topk, 6): all but the first of
/// these.
struct Spec {
    std::string name;
    int height = 0, width = 0;
    std::vector<std::string> class_names;
    std::vector<int> strides{8, 16, 32};
    bool rgb = false;       // else blue comes first
    bool imagenet = false;  // / 255, then mean and standard deviation; else 0 to 255
    int pad_value = 114;
    bool decoded = true;
    bool nms = false;  // in the graph, whose own thresholds hold
    float nms_score_threshold = 0;
    int topk = 0;  // 0: none
    bool uint8_input = false;

    std::size_t num_classes() const { return class_names.size(); }

    std::size_t num_anchors() const {
        std::size_t count = 0;
        for (const int stride : strides)
            count += static_cast<std::size_t>(height / stride) * static_cast<std::size_t>(width / stride);
        return count;
    }

    std::vector<std::size_t> input_shape() const {
        const auto rows = static_cast<std::size_t>(height), columns = static_cast<std::size_t>(width);
        return uint8_input ? std::vector<std::size_t>{1, rows, columns, 3}
                           : std::vector<std::size_t>{1, 3, rows, columns};
    }

    /// With NMS in the graph, {0, 7}, and the 0 stands for any number.
    std::vector<std::size_t> output_shape() const {
        if (nms) return {0, 7};
        if (topk > 0) return {1, static_cast<std::size_t>(topk), 6};
        return {1, num_anchors(), 5 + num_classes()};
    }

    /// Whether a shape that the graph names, where a negative side stands for any, is one of the two above.
    static bool fits(const std::vector<std::int64_t>& found, const std::vector<std::size_t>& wanted) {
        const auto fit = [](std::int64_t one, std::size_t other) {
            return one < 0 || other == 0 || one == static_cast<std::int64_t>(other);
        };
        return found.size() == wanted.size() && std::equal(found.begin(), found.end(), wanted.begin(), fit);
    }
};

/// The object in a JSON file.
inline nlohmann::json read_json(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Error("cannot read " + path + ".");
    nlohmann::json content = nlohmann::json::parse(file, nullptr, false);
    if (!content.is_object()) throw Error(path + " holds no JSON object.");
    return content;
}

namespace detail {

inline void require(bool holds, const std::string& problem) {
    if (!holds) throw Error(problem);
}

/// Throws for fields that are out of range or do not fit each other: what follows takes memory by them.
inline void check(const Spec& spec) {
    require(!spec.class_names.empty(), "class_names is empty");
    require(!spec.strides.empty() && spec.strides.size() <= 8, "strides cannot be so many");
    const int step = *std::max_element(spec.strides.begin(), spec.strides.end());
    for (const int stride : spec.strides)
        require(stride > 0 && step % stride == 0, "strides do not divide each other");
    for (const int side : {spec.height, spec.width})
        require(side > 0 && side <= 8192 && side % step == 0,
                "input_size is not in multiples of " + std::to_string(step) + ", up to 8192");
    require(spec.pad_value >= 0 && spec.pad_value <= 255, "pad_value is no byte");
    require(spec.decoded || (!spec.nms && spec.topk == 0), "NMS and TopK in the graph need `decoded`");
    require(!spec.nms || spec.topk == 0, "NMS and TopK in the graph exclude each other");
    require(spec.topk >= 0 && static_cast<std::size_t>(spec.topk) <= spec.num_anchors(), "topk is out of range");
}

}  // namespace detail

/// Read a spec.json. Throws for one that is missing, and for unknown, missing or wrong fields.
inline Spec read_spec(const std::string& path) {
    using detail::require;
    static const std::set<std::string> known{"name", "input_size", "class_names", "category_ids", "strides",
        "channel_order", "normalization", "pad_value", "batch", "precision", "decoded", "nms", "topk", "uint8_input",
        "source_sha256", "activation", "batch_norm_eps"};
    const nlohmann::json content = read_json(path);
    Spec spec;
    try {
        // A field of a later version, or of a model of another task, would change what the numbers mean.
        for (const auto& [name, value] : content.items())
            require(known.count(name) > 0, "unknown field '" + name + "'");
        const nlohmann::json &order = content.at("channel_order"), &scale = content.at("normalization"),
                             &batch = content.at("batch"), none;
        require(order == "RGB" || order == "BGR", "channel_order is " + order.dump());
        require(scale.is_null() || scale == "imagenet", "normalization is " + scale.dump());
        require(batch.is_null() || batch == 1, "it takes several images at a time: export it with batch 1");
        const nlohmann::json nms = content.value("nms", none), topk = content.value("topk", none);
        require(content.at("input_size").size() == 2, "input_size is not height and width");
        content.at("name").get_to(spec.name);
        content.at("input_size").at(0).get_to(spec.height);
        content.at("input_size").at(1).get_to(spec.width);
        content.at("class_names").get_to(spec.class_names);
        spec.strides = content.value("strides", spec.strides);
        spec.rgb = order == "RGB";
        spec.imagenet = !scale.is_null();
        spec.pad_value = content.value("pad_value", spec.pad_value);
        content.at("decoded").get_to(spec.decoded);
        spec.nms = !nms.is_null();
        if (spec.nms) nms.at("score_threshold").get_to(spec.nms_score_threshold);
        if (!topk.is_null()) topk.get_to(spec.topk);
        spec.uint8_input = content.value("uint8_input", false);
        detail::check(spec);
    } catch (const std::exception& error) {
        throw Error(path + " is not a model spec for this program: " + error.what() + ".");
    }
    return spec;
}

// --- from an image to the network's input

/// Pixels of 3 bytes, blue first. step: bytes from one row to the next; 0 where they lie one after the other.
struct Image {
    const std::uint8_t* data;
    int height, width;
    std::size_t step = 0;
};

/// What the network takes: one of the two is filled, as `uint8_input` says. ratio: to divide boxes by.
struct Input {
    std::vector<std::uint8_t> bytes;
    std::vector<float> floats;
    double ratio = 1;

    const void* data() const { return floats.empty() ? static_cast<const void*>(bytes.data()) : floats.data(); }
};

namespace detail {

/// Two neighbouring pixels, and the weight of each in 1/2048.
struct Tap {
    int first, second, left, right;
};

/// Where a row (or column) of `target` pixels is sampled in one of `source` pixels.
inline std::vector<Tap> taps(int source, int target) {
    const double scale = 1 / (static_cast<double>(target) / source);
    std::vector<Tap> all;
    all.reserve(static_cast<std::size_t>(target));
    for (int index = 0; index < target; ++index) {
        const auto place = static_cast<float>((index + 0.5) * scale - 0.5);
        const float whole = std::floor(place), part = place - whole;
        const int first = static_cast<int>(whole);
        all.push_back({std::clamp(first, 0, source - 1), std::clamp(first + 1, 0, source - 1),
                       static_cast<int>(std::lrint((1 - part) * 2048)), static_cast<int>(std::lrint(part * 2048))});
    }
    return all;
}

/// As OpenCV's INTER_LINEAR, to the byte: whole numbers of 11 bits, rounded where it rounds.
inline void resize(const Image& image, int height, int width, std::uint8_t* target, std::size_t target_step) {
    const std::vector<Tap> columns = taps(image.width, width), rows = taps(image.height, height);
    for (const Tap& row : rows) {
        const std::uint8_t* upper = image.data + static_cast<std::size_t>(row.first) * image.step;
        const std::uint8_t* lower = image.data + static_cast<std::size_t>(row.second) * image.step;
        std::uint8_t* value = target;
        for (const Tap& column : columns)
            for (int channel = 0; channel < 3; ++channel) {
                const int left = 3 * column.first + channel, right = 3 * column.second + channel;
                const int above = (upper[left] * column.left + upper[right] * column.right) >> 4;
                const int below = (lower[left] * column.left + lower[right] * column.right) >> 4;
                const int sum = ((row.left * above) >> 16) + ((row.right * below) >> 16);
                *value++ = static_cast<std::uint8_t>((sum + 2) >> 2);
            }
        target += target_step;
    }
}

}  // namespace detail

/// Scale an image into the top-left corner of a padded canvas, keeping its aspect ratio.
///
/// Returns the canvas, (H, W, 3) bytes, and leaves in `ratio` what to divide boxes on it by to get boxes on the image.
/// The scaled sides are truncated, not rounded, and small images are enlarged.
inline std::vector<std::uint8_t> letterbox(Image image, const Spec& spec, double& ratio) {
    if (image.data == nullptr || image.height < 1 || image.width < 1) throw Error("an image must have pixels.");
    const std::size_t row_bytes = 3 * static_cast<std::size_t>(image.width);
    if (image.step == 0) image.step = row_bytes;
    if (image.step < row_bytes) throw Error("the rows of an image of 3 bytes a pixel are longer than its step.");
    ratio = std::min(static_cast<double>(spec.height) / image.height, static_cast<double>(spec.width) / image.width);
    // A very long and thin image would shrink to nothing: keep one pixel.
    const int height = std::max(static_cast<int>(image.height * ratio), 1);
    const int width = std::max(static_cast<int>(image.width * ratio), 1);
    const std::size_t step = 3 * static_cast<std::size_t>(spec.width);
    std::vector<std::uint8_t> canvas(static_cast<std::size_t>(spec.height) * step,
                                     static_cast<std::uint8_t>(spec.pad_value));
    detail::resize(image, height, width, canvas.data(), step);
    return canvas;
}

/// Bring a canvas (H, W, 3) into the form that the artifact takes.
inline Input network_input(std::vector<std::uint8_t> canvas, const Spec& spec, double ratio) {
    // ImageNet's statistics, of red, green and blue in 0..1.
    constexpr std::array<float, 3> mean{0.485F, 0.456F, 0.406F}, deviation{0.229F, 0.224F, 0.225F};
    const std::size_t pixels = static_cast<std::size_t>(spec.height) * static_cast<std::size_t>(spec.width);
    if (canvas.size() != 3 * pixels) throw Error("a canvas must have 3 bytes for each pixel of the network's input.");
    Input input;
    input.ratio = ratio;
    if (spec.uint8_input) {
        if (spec.rgb)
            for (std::size_t pixel = 0; pixel < pixels; ++pixel) std::swap(canvas[3 * pixel], canvas[3 * pixel + 2]);
        input.bytes = std::move(canvas);
        return input;
    }
    input.floats.resize(3 * pixels);
    for (std::size_t plane = 0; plane < 3; ++plane) {
        const std::size_t channel = spec.rgb ? 2 - plane : plane;  // of the canvas, where blue is 0
        float* value = input.floats.data() + plane * pixels;
        for (std::size_t pixel = 0; pixel < pixels; ++pixel, ++value) {
            *value = canvas[3 * pixel + channel];
            if (spec.imagenet) *value = (*value / 255.0F - mean[2 - channel]) / deviation[2 - channel];
        }
    }
    return input;
}

/// Letterbox an image and bring it into the form that the artifact takes.
inline Input preprocess(const Image& image, const Spec& spec) {
    double ratio = 0;
    std::vector<std::uint8_t> canvas = letterbox(image, spec, ratio);
    return network_input(std::move(canvas), spec, ratio);
}

// --- from the network's output to detections

/// A box in pixels, and what is in it.
struct Detection {
    float left, top, right, bottom, score;
    int class_id;
};

namespace detail {

constexpr double farthest = 1e6;  // pixels

/// Raise where an output is not what the spec says: (A, 5 + C), (topk, 6), or (M, 7) with NMS in the graph.
inline void check_output(const float* output, std::size_t count, const Spec& spec) {
    const std::vector<std::size_t> shape = spec.output_shape();
    const std::size_t row = shape.back(), wanted = spec.nms ? count - count % row : row * shape[1];
    if (count != wanted || (output == nullptr && count > 0))
        throw Error("the output of " + spec.name + " must have " +
                    (spec.nms ? "a multiple of 7" : std::to_string(wanted)) + " values, not " +
                    (output == nullptr ? "none" : std::to_string(count)) + ".");
}

/// Call use(anchor, x, y, stride) for each anchor: level by level, row by row.
template <typename Use>
void for_each_anchor(const Spec& spec, Use use) {
    std::size_t anchor = 0;
    for (const int stride : spec.strides)
        for (int y = 0; y < spec.height / stride; ++y)
            for (int x = 0; x < spec.width / stride; ++x) use(anchor++, x, y, stride);
}

/// The box (cx, cy, w, h) in input pixels of an anchor's values, whether or not the graph decoded it.
inline std::array<float, 4> box_of(const float* value, int x, int y, int stride, bool decoded) {
    if (decoded) return {value[0], value[1], value[2], value[3]};
    const auto size = static_cast<float>(stride);
    return {(value[0] + static_cast<float>(x)) * size, (value[1] + static_cast<float>(y)) * size,
            std::exp(value[2]) * size, std::exp(value[3]) * size};
}

/// The box divided by the ratio.
inline Detection scaled_back(Detection one, float ratio) {
    one.left /= ratio, one.top /= ratio, one.right /= ratio, one.bottom /= ratio;
    return one;
}

inline bool is_finite(const Detection& one) {
    return std::isfinite(one.left) && std::isfinite(one.top) && std::isfinite(one.right) &&
           std::isfinite(one.bottom) && std::isfinite(one.score);
}

/// A row of a graph: left, top, right, bottom, score, class. A class that there is not has no score, and is dropped.
inline Detection read_row(const float* row, const Spec& spec) {
    const bool known = row[5] >= 0 && row[5] < static_cast<float>(spec.num_classes());
    return {row[0], row[1], row[2], row[3], known ? row[4] : 0, known ? static_cast<int>(row[5]) : 0};
}

/// The score of an anchor and its class; NaN where a class score is NaN.
inline std::pair<float, int> best_class(const float* value, std::size_t classes) {
    const float *first = value + 5, *best = first;
    for (const float* one = first; one != first + classes; ++one) {
        if (std::isnan(*one)) return {*one, 0};
        if (*one > *best) best = one;
    }
    return {value[4] * *best, static_cast<int>(best - first)};
}

/// As OpenCV computes it, whose NMS the Python runtimes call: two boxes without an area are the same.
inline float overlap(const Detection& one, const Detection& other) {
    const auto near = [](float value) { return std::clamp<double>(value, -farthest, farthest); };
    const auto area = [&](const Detection& box) {
        return (near(box.right) - near(box.left)) * (near(box.bottom) - near(box.top));
    };
    const double both = area(one) + area(other);
    if (both <= std::numeric_limits<double>::epsilon()) return 1;
    const double width = near(std::min(one.right, other.right)) - near(std::max(one.left, other.left));
    const double height = near(std::min(one.bottom, other.bottom)) - near(std::max(one.top, other.top));
    const double shared = width > 0 && height > 0 ? width * height : 0;
    return 1.0F - static_cast<float>(1.0 - shared / (both - shared));
}

}  // namespace detail

/// The anchors, or rows of a graph with TopK or NMS, of at least this score, in input pixels, best first.
///
/// One class an anchor: score = objectness x best class score. What is not finite, in pixels of the image too, is
/// dropped, and so are scores of exactly 0 and classes that there are not.
inline std::vector<Detection> candidates(const float* output, std::size_t count, double ratio, const Spec& spec,
                                         float score_threshold) {
    detail::check_output(output, count, spec);
    if (!(ratio > 0 && std::isfinite(ratio))) throw Error("the ratio of a letterbox must be over 0.");
    if (spec.nms && score_threshold < spec.nms_score_threshold)
        throw Error(spec.name + " was exported with detections from " + std::to_string(spec.nms_score_threshold) +
                    " on: export it again.");
    std::vector<Detection> found;
    const auto add = [&](const Detection& one) {
        if (one.score >= score_threshold && one.score > 0 &&
            detail::is_finite(detail::scaled_back(one, static_cast<float>(ratio))))
            found.push_back(one);
    };
    if (spec.nms) {
        for (std::size_t at = 0; at < count; at += 7)
            if (output[at] == 0) add(detail::read_row(output + at + 1, spec));  // of the first image of the batch
    } else if (spec.topk > 0) {
        for (std::size_t at = 0; at < count; at += 6) add(detail::read_row(output + at, spec));
    } else {
        detail::for_each_anchor(spec, [&](std::size_t anchor, int x, int y, int stride) {
            const float* value = output + anchor * (5 + spec.num_classes());
            if (!(value[4] >= score_threshold)) return;  // a class score is at most 1
            const auto [score, class_id] = detail::best_class(value, spec.num_classes());
            const auto [cx, cy, w, h] = detail::box_of(value, x, y, stride, spec.decoded);
            add({cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, class_id});
        });
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const Detection& one, const Detection& other) { return one.score > other.score; });
    return found;
}

/// Drop a candidate that overlaps a better one of its class, which stays, by an IoU over the threshold. Best first.
inline std::vector<Detection> suppress(const std::vector<Detection>& candidates, float nms_threshold) {
    std::vector<Detection> kept;
    for (const Detection& one : candidates)
        if (std::none_of(kept.begin(), kept.end(), [&](const Detection& better) {
                return better.class_id == one.class_id && detail::overlap(one, better) > nms_threshold;
            }))
            kept.push_back(one);
    return kept;
}

/// The detections of one image, in its own pixels, best first; not clipped to it (see `clip`), and none too many.
///
/// output: `count` floats, (A, 5 + C), (topk, 6), or with NMS in the graph (M, 7), whose own thresholds hold then:
/// score_threshold can only be higher.
inline std::vector<Detection> postprocess(const float* output, std::size_t count, double ratio, const Spec& spec,
                                          float score_threshold = 0.25F, float nms_threshold = 0.65F) {
    if (!(score_threshold >= 0 && score_threshold <= 1 && nms_threshold >= 0 && nms_threshold <= 1))
        throw Error("a threshold must lie between 0 and 1.");
    std::vector<Detection> found = candidates(output, count, ratio, spec, score_threshold);
    if (!spec.nms) found = suppress(found, nms_threshold);
    for (Detection& one : found) one = detail::scaled_back(one, static_cast<float>(ratio));
    return found;
}

/// The detections cut at the edges of their image; those without any area in it are dropped.
inline std::vector<Detection> clip(std::vector<Detection> found, int width, int height) {
    const auto right = static_cast<float>(width), bottom = static_cast<float>(height);
    std::vector<Detection> inside;
    for (Detection& one : found) {
        one.left = std::clamp(one.left, 0.0F, right), one.right = std::clamp(one.right, 0.0F, right);
        one.top = std::clamp(one.top, 0.0F, bottom), one.bottom = std::clamp(one.bottom, 0.0F, bottom);
        if (one.right > one.left && one.bottom > one.top) inside.push_back(one);
    }
    return inside;
}

}  // namespace yolox
