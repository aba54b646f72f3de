package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
)

// dtypeBytes lists the types of the format that Polar meets, with their size in bytes.
var dtypeBytes = map[string]int{
	"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
	"I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8,
}

// toFloat32 converts the little-endian bytes of a floating-point tensor.
func toFloat32(dtype string, data []byte) ([]float32, error) {
	width := dtypeBytes[dtype]
	if width == 0 {
		return nil, fmt.Errorf("unknown type %s", dtype)
	}
	out := make([]float32, len(data)/width)
	return out, convert(out, dtype, data)
}

// convert fills out from the little-endian bytes of as many floating-point numbers.
func convert(out []float32, dtype string, data []byte) error {
	switch dtype {
	case "F32":
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
	case "BF16":
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16)
		}
	case "F16":
		for i := range out {
			out[i] = halfToFloat32(binary.LittleEndian.Uint16(data[2*i:]))
		}
	case "F64":
		for i := range out {
			out[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:])))
		}
	default:
		return fmt.Errorf("type %s is not floating point (want F32, F16, BF16 or F64)", dtype)
	}
	return nil
}

// halfToFloat32 widens an IEEE 754 binary16 number; the result is exact.
func halfToFloat32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent := uint32(h>>10) & 0x1f
	fraction := uint32(h & 0x3ff)
	switch exponent {
	case 0x1f: // infinity or NaN
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	case 0: // zero or subnormal: fraction·2⁻²⁴
		value := float32(fraction) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(value) | sign)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}
