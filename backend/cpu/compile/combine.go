package compile

import (
	"cmp"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/dtypes/float16"
	"github.com/polargo/polar/backend/cpu/kernel/vector"
)

// combiner is how a scatter combines elements of types whose lanes are not 32 bits; nil for types that have no order.
func combiner(op compute.OpType, t dtypes.DType) vector.BinaryFunc {
	switch t {
	case dtypes.Float64:
		return combine[float64](op)
	case dtypes.Int64:
		return combine[int64](op)
	case dtypes.Uint64:
		return combine[uint64](op)
	case dtypes.Int16:
		return combine[int16](op)
	case dtypes.Uint16:
		return combine[uint16](op)
	case dtypes.Int8:
		return combine[int8](op)
	case dtypes.Uint8:
		return combine[uint8](op)
	case dtypes.BFloat16:
		f := combineTwo[float32](op)
		return eachPair(func(a, b bfloat16.BFloat16) bfloat16.BFloat16 {
			return bfloat16.FromFloat32(f(a.Float32(), b.Float32()))
		})
	case dtypes.Float16:
		f := combineTwo[float32](op)
		return eachPair(func(a, b float16.Float16) float16.Float16 { return float16.FromFloat32(f(a.Float32(), b.Float32())) })
	}
	return nil
}

func combine[T cmp.Ordered](op compute.OpType) vector.BinaryFunc { return eachPair(combineTwo[T](op)) }

func combineTwo[T cmp.Ordered](op compute.OpType) func(a, b T) T {
	switch op {
	case compute.OpTypeMax:
		return func(a, b T) T { return max(a, b) }
	case compute.OpTypeMin:
		return func(a, b T) T { return min(a, b) }
	}
	return func(a, b T) T { return a + b }
}

func eachPair[T any](f func(a, b T) T) vector.BinaryFunc {
	return func(dst, a, b unsafe.Pointer, n int) {
		d, x, y := unsafe.Slice((*T)(dst), n), unsafe.Slice((*T)(a), n), unsafe.Slice((*T)(b), n)
		for i := range d {
			d[i] = f(x[i], y[i])
		}
	}
}
