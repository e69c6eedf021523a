"""The built-in TFLite operators that image classifiers are made of, and what each must have.

Engines assume what converters always write: with inputs missing, or with the options of another operator, they crash.
Numbers are those of the public schema (tensorflow/lite/schema/schema.fbs, version 3).
"""

from __future__ import annotations

# BuiltinOperator: (inputs that must be there, BuiltinOptions type that must be there; 0 where options hold nothing).
OPERATORS: dict[int, tuple[int, int]] = {
    0: (2, 11),  # ADD
    1: (1, 5),  # AVERAGE_POOL_2D
    2: (1, 10),  # CONCATENATION
    3: (2, 1),  # CONV_2D
    4: (2, 2),  # DEPTHWISE_CONV_2D
    5: (1, 94),  # DEPTH_TO_SPACE
    6: (1, 0),  # DEQUANTIZE
    8: (1, 0),  # FLOOR
    9: (2, 8),  # FULLY_CONNECTED
    11: (1, 12),  # L2_NORMALIZATION
    13: (1, 13),  # LOCAL_RESPONSE_NORMALIZATION
    14: (1, 0),  # LOGISTIC
    17: (1, 5),  # MAX_POOL_2D
    18: (2, 21),  # MUL
    19: (1, 0),  # RELU
    20: (1, 0),  # RELU_N1_TO_1
    21: (1, 0),  # RELU6
    22: (1, 0),  # RESHAPE
    23: (2, 15),  # RESIZE_BILINEAR
    25: (1, 9),  # SOFTMAX
    26: (1, 19),  # SPACE_TO_DEPTH
    28: (1, 0),  # TANH
    34: (2, 0),  # PAD
    36: (2, 23),  # GATHER
    37: (3, 0),  # BATCH_TO_SPACE_ND
    38: (3, 0),  # SPACE_TO_BATCH_ND
    39: (2, 0),  # TRANSPOSE
    40: (2, 27),  # MEAN
    41: (2, 28),  # SUB
    42: (2, 29),  # DIV
    43: (1, 30),  # SQUEEZE
    45: (4, 32),  # STRIDED_SLICE
    47: (1, 0),  # EXP
    49: (2, 35),  # SPLIT
    50: (1, 0),  # LOG_SOFTMAX
    53: (1, 0),  # CAST
    54: (2, 0),  # PRELU
    55: (2, 0),  # MAXIMUM
    57: (2, 0),  # MINIMUM
    59: (1, 0),  # NEG
    60: (3, 0),  # PADV2
    65: (3, 0),  # SLICE
    67: (3, 49),  # TRANSPOSE_CONV
    69: (2, 0),  # TILE
    70: (2, 0),  # EXPAND_DIMS
    73: (1, 0),  # LOG
    74: (2, 27),  # SUM
    75: (1, 0),  # SQRT
    76: (1, 0),  # RSQRT
    77: (1, 0),  # SHAPE
    78: (2, 0),  # POW
    81: (2, 27),  # REDUCE_PROD
    82: (2, 27),  # REDUCE_MAX
    83: (1, 59),  # PACK
    88: (1, 64),  # UNPACK
    89: (2, 27),  # REDUCE_MIN
    92: (1, 0),  # SQUARE
    97: (2, 74),  # RESIZE_NEAREST_NEIGHBOR
    98: (1, 75),  # LEAKY_RELU
    99: (2, 0),  # SQUARED_DIFFERENCE
    100: (2, 77),  # MIRROR_PAD
    101: (1, 0),  # ABS
    102: (3, 79),  # SPLIT_V
    104: (1, 0),  # CEIL
    111: (1, 0),  # ELU
    114: (1, 0),  # QUANTIZE
    116: (1, 0),  # ROUND
    117: (1, 0),  # HARD_SWISH
    126: (2, 101),  # BATCH_MATMUL
    130: (2, 0),  # BROADCAST_TO
    150: (1, 116),  # GELU
    152: (1, 0),  # RELU_0_TO_1
}

# CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, MUL, BATCH_MATMUL; TRANSPOSE_CONV's first input is a shape.
PRODUCTS = frozenset((3, 4, 9, 18, 126))

# RESHAPE, RESIZE_BILINEAR, PAD, TRANSPOSE, SQUEEZE, CAST, EXPAND_DIMS: 8-bit numbers pass through unread, so that they
# need no scale.
MOVES = frozenset((22, 23, 34, 39, 43, 53, 70))

# RESHAPE's and SQUEEZE's options hold a vector of 32-bit numbers in their first field.
VECTOR_OPTIONS = frozenset((17, 30))

# The options of convolutions and poolings; a stride of 0 is a division by zero.
STRIDED_OPTIONS = frozenset((1, 2, 5, 49))

# SPLIT, UNPACK and SPLIT_V state in their options' first field how many outputs they have.
SPLITS = frozenset((49, 88, 102))

# Which input holds the data: SPLIT's first is the axis, TRANSPOSE_CONV's a shape.
DATA_INPUT = {49: 1, 67: 2}

# DEQUANTIZE, CAST, SHAPE, QUANTIZE; every other operator's outputs have the type of its data.
CONVERSIONS = frozenset((6, 53, 77, 114))

# ADD, MUL, SUB, DIV, MAXIMUM, MINIMUM, POW, SQUARED_DIFFERENCE: two tensors of one type, broadcast.
BINARY = frozenset((0, 18, 41, 42, 55, 57, 78, 99))

# One number out for every number in: DEQUANTIZE, FLOOR, LOGISTIC, RELU, RELU_N1_TO_1, RELU6, RESHAPE, SOFTMAX, TANH,
# EXP, LOG_SOFTMAX, CAST, NEG, LOG, SQRT, RSQRT, SQUARE, LEAKY_RELU, ABS, CEIL, ELU, QUANTIZE, ROUND, HARD_SWISH, GELU,
# RELU_0_TO_1.
ELEMENTWISE = frozenset(
    (6, 8, 14, 19, 20, 21, 22, 25, 28, 47, 50, 53, 59, 73, 75, 76, 92, 98, 101, 104, 111, 114, 116, 117, 150, 152)
)
