//go:build amd64 && !noasm

package vector

import (
	"math"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

//go:generate sh -c "cd _gen && go run . && gofmt -w .."

func avx2(k Kernels) Kernels {
	k.Level = feature.AVX2
	avx2Binary(&k)
	avx2Unary(&k)
	avx2Functions(&k)
	k.Unary[Sin], k.Unary[Cos] = circular(avx2Sin, math.Sin), circular(avx2Cos, math.Cos)
	return k
}

func avx512(k Kernels) Kernels {
	k.Level = feature.AVX512
	avx512Binary(&k)
	avx512Unary(&k)
	avx512Functions(&k)
	k.Unary[Sin], k.Unary[Cos] = circular(avx512Sin, math.Sin), circular(avx512Cos, math.Cos)
	return k
}

// circularBound is up to where the reduction of sin and cos by multiples of pi/2 in three parts is good.
const circularBound = 1 << 15

// circularBlock is how many lanes are looked at together for larger ones.
const circularBlock = 256

// circular is sin or cos: by the vector kernel, and in float64 for the lanes beyond its bound.
func circular(kernel UnaryFunc, f func(float64) float64) UnaryFunc {
	return func(dst, x unsafe.Pointer, n int) {
		var beyond [circularBlock]float32
		for from := 0; from < n; from += circularBlock {
			d, a, m := unsafe.Add(dst, 4*from), unsafe.Add(x, 4*from), min(circularBlock, n-from)
			if largest(slice[uint32](a, m)) <= circularBits {
				kernel(d, a, m)
				continue
			}
			copy(beyond[:m], slice[float32](a, m))
			kernel(d, a, m)
			for i, v := range beyond[:m] {
				if !(v >= -circularBound && v <= circularBound) {
					slice[float32](d, m)[i] = float32(f(float64(v)))
				}
			}
		}
	}
}

var circularBits = math.Float32bits(circularBound)

// largest is the greatest |x| as bits, where NaN is greater than all numbers.
func largest(x []uint32) (most uint32) {
	for _, v := range x {
		most = max(most, v&^(1<<31))
	}
	return most
}
