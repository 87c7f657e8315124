// The output of a YOLOX artifact as boxes for DeepStream's element nvinfer. Compile it as README.md says; thresholds
// and NMS are nvinfer's own, by config_infer_primary.txt.

#include <algorithm>
#include <cmath>
#include <vector>

#include "nvdsinfer_custom_impl.h"

namespace {

using Layers = std::vector<NvDsInferLayerInfo>;
using Objects = std::vector<NvDsInferParseObjectInfo>;

// The rows of the one output, float32 (rows, columns); null where the network gives anything else.
const float* rows_of(const Layers& layers, unsigned columns, unsigned& rows) {
  if (layers.size() != 1 || layers[0].dataType != FLOAT || layers[0].inferDims.numDims != 2) return nullptr;
  const auto& dims = layers[0].inferDims;
  if (static_cast<unsigned>(dims.d[1]) != columns) return nullptr;
  rows = static_cast<unsigned>(dims.d[0]);
  return static_cast<const float*>(layers[0].buffer);
}

// A box in pixels of the network's input, clipped to it. NaN and infinity detect nothing.
void add(float left, float top, float right, float bottom, float score, unsigned class_id,
         const NvDsInferNetworkInfo& network, const NvDsInferParseDetectionParams& wanted, Objects& objects) {
  if (!(score >= wanted.perClassPreclusterThreshold[class_id]) || !std::isfinite(score)) return;
  if (!std::isfinite(left) || !std::isfinite(top) || !std::isfinite(right) || !std::isfinite(bottom)) return;
  const float width = static_cast<float>(network.width), height = static_cast<float>(network.height);
  left = std::clamp(left, 0.0F, width);
  right = std::clamp(right, 0.0F, width);
  top = std::clamp(top, 0.0F, height);
  bottom = std::clamp(bottom, 0.0F, height);
  if (right <= left || bottom <= top) return;
  NvDsInferParseObjectInfo object{};
  object.classId = class_id;
  object.left = left;
  object.top = top;
  object.width = right - left;
  object.height = bottom - top;
  object.detectionConfidence = score;
  objects.push_back(object);
}

}  // namespace

// Of a decoded output (A, 5 + C): cx, cy, w, h, objectness, class scores. One class an anchor, the best.
extern "C" bool NvDsInferParseYolox(Layers const& layers, NvDsInferNetworkInfo const& network,
                                    NvDsInferParseDetectionParams const& wanted, Objects& objects) {
  const unsigned classes = wanted.numClassesConfigured;
  unsigned rows = 0;
  const float* row = rows_of(layers, 5 + classes, rows);
  if (row == nullptr) return false;
  for (; rows > 0; --rows, row += 5 + classes) {
    const float* best = std::max_element(row + 5, row + 5 + classes);
    add(row[0] - row[2] / 2, row[1] - row[3] / 2, row[0] + row[2] / 2, row[1] + row[3] / 2, row[4] * *best,
        static_cast<unsigned>(best - row - 5), network, wanted, objects);
  }
  return true;
}

// Of an output that ends in the best anchors (K, 6): left, top, right, bottom, confidence, class.
extern "C" bool NvDsInferParseYoloxBest(Layers const& layers, NvDsInferNetworkInfo const& network,
                                        NvDsInferParseDetectionParams const& wanted, Objects& objects) {
  unsigned rows = 0;
  const float* row = rows_of(layers, 6, rows);
  if (row == nullptr) return false;
  for (; rows > 0; --rows, row += 6) {
    if (!(row[5] >= 0 && row[5] < static_cast<float>(wanted.numClassesConfigured))) continue;
    add(row[0], row[1], row[2], row[3], row[4], static_cast<unsigned>(row[5]), network, wanted, objects);
  }
  return true;
}

CHECK_CUSTOM_PARSE_FUNC_PROTOTYPE(NvDsInferParseYolox);
CHECK_CUSTOM_PARSE_FUNC_PROTOTYPE(NvDsInferParseYoloxBest);
