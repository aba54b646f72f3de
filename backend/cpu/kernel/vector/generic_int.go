package vector

import (
	"math"
	"math/bits"
	"unsafe"
)

func genericInt(k *Kernels) {
	k.VV[AddInt], k.VV[SubInt], k.VV[MulInt] = add[int32], sub[int32], mul[int32]
	k.VV[MaxInt], k.VV[MinInt] = larger[int32], smaller[int32]
	k.VV[MaxUint], k.VV[MinUint] = larger[uint32], smaller[uint32]
	k.VV[DivInt], k.VV[RemInt] = binary(divide), binary(remainder)
	k.VV[DivUint], k.VV[RemUint] = binary(divideUint), binary(remainderUint)
	k.VV[EqInt], k.VV[NeInt], k.VV[LtInt], k.VV[LeInt] = equal[int32], unequal[int32], less[int32], lessEqual[int32]
	k.VV[GtInt], k.VV[GeInt] = greater[int32], greaterEqual[int32]
	k.VV[LtUint], k.VV[LeUint] = less[uint32], lessEqual[uint32]
	k.VV[GtUint], k.VV[GeUint] = greater[uint32], greaterEqual[uint32]

	k.VV[And] = func(dst, a, b unsafe.Pointer, n int) {
		d, x, y := slice[uint32](dst, n), slice[uint32](a, n), slice[uint32](b, n)
		for i, v := range x {
			d[i] = v & y[i]
		}
	}
	k.VV[Or] = func(dst, a, b unsafe.Pointer, n int) {
		d, x, y := slice[uint32](dst, n), slice[uint32](a, n), slice[uint32](b, n)
		for i, v := range x {
			d[i] = v | y[i]
		}
	}
	k.VV[Xor] = func(dst, a, b unsafe.Pointer, n int) {
		d, x, y := slice[uint32](dst, n), slice[uint32](a, n), slice[uint32](b, n)
		for i, v := range x {
			d[i] = v ^ y[i]
		}
	}
	k.Unary[Not] = xorBits(math.MaxUint32)
	k.VV[ShiftLeft] = binary(func(a, b uint32) uint32 { return a << b })
	k.VV[ShiftRight] = binary(func(a, b int32) int32 { return a >> uint32(b) })
	k.VV[ShiftRightLogical] = binary(func(a, b uint32) uint32 { return a >> b })

	k.Unary[NegInt] = unary(func(x int32) int32 { return -x })
	k.Unary[AbsInt] = unary(func(x int32) int32 { return max(x, -x) })
	k.Unary[SignInt] = unary(func(x int32) int32 { return x>>31 | int32(uint32(-x)>>31) })
	k.Unary[PopulationCount] = unary(func(x uint32) int32 { return int32(bits.OnesCount32(x)) })
	k.Unary[LeadingZeros] = unary(func(x uint32) int32 { return int32(bits.LeadingZeros32(x)) })
}

func divide(a, b int32) int32 {
	if b == 0 {
		return -1
	}
	return a / b
}

func remainder(a, b int32) int32 {
	if b == 0 {
		return a
	}
	return a % b
}

func divideUint(a, b uint32) uint32 {
	if b == 0 {
		return math.MaxUint32
	}
	return a / b
}

func remainderUint(a, b uint32) uint32 {
	if b == 0 {
		return a
	}
	return a % b
}
