package vector

import (
	"math"
	"unsafe"
)

func genericConvert(k *Kernels) {
	k.Unary[FloatFromInt] = unary(func(x int32) float32 { return float32(x) })
	k.Unary[FloatFromUint] = unary(func(x uint32) float32 { return float32(x) })
	k.Unary[IntFromFloat] = unary(func(x float32) int32 {
		if x >= -1<<31 && x < 1<<31 {
			return int32(x)
		}
		return math.MinInt32
	})
	k.Unary[UintFromFloat] = unary(func(x float32) uint32 {
		switch {
		case x >= 1<<32:
			return math.MaxUint32
		case x > 0:
			return uint32(uint64(x))
		}
		return 0
	})
	k.Unary[FloatFromMask] = unary(func(x uint32) uint32 { return x & math.Float32bits(1) })
	k.Unary[IntFromMask] = unary(func(x uint32) uint32 { return x & 1 })
	k.Unary[MaskFromInt] = unary(func(x int32) int32 { return mask(x != 0) })
	k.Unary[MaskFromFloat] = unary(func(x float32) int32 { return mask(x != 0) })

	k.FloatFromBF16 = func(dst, x unsafe.Pointer, n int) {
		d, a := slice[uint32](dst, n), slice[uint16](x, n)
		for i, v := range a {
			d[i] = uint32(v) << 16
		}
	}
	k.BF16FromFloat = func(dst, x unsafe.Pointer, n int) {
		d, a := slice[uint16](dst, n), slice[uint32](x, n)
		for i, v := range a {
			d[i] = bf16(v)
		}
	}
	k.MaskFromBool = func(dst, x unsafe.Pointer, n int) {
		d, a := slice[int32](dst, n), slice[uint8](x, n)
		for i, v := range a {
			d[i] = mask(v != 0)
		}
	}
	k.BoolFromMask = func(dst, x unsafe.Pointer, n int) {
		d, a := slice[uint8](dst, n), slice[int32](x, n)
		for i, v := range a {
			d[i] = uint8(v & 1)
		}
	}
}

// bf16 rounds the bits of a float32 to those of a bfloat16. NaN is kept quiet, with the upper part of its payload.
func bf16(v uint32) uint16 {
	if v&0x7fffffff > 0x7f800000 {
		return uint16(v>>16) | 0x40
	}
	return uint16((v + 0x7fff + v>>16&1) >> 16)
}
