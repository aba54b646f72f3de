package vector

import (
	"math"
	"sync"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

// lane is what 32 bits may hold.
type lane interface{ float32 | int32 | uint32 }

func slice[T any](p unsafe.Pointer, n int) []T { return unsafe.Slice((*T)(p), n) }

// generic is the level in plain Go.
func generic() Kernels {
	k := Kernels{Level: feature.Generic}
	genericFloat(&k)
	genericFunctions(&k)
	genericInt(&k)
	for op := range Count {
		if vv := k.VV[op]; vv != nil {
			k.VS[op], k.SV[op] = scalarSecond(vv), scalarFirst(vv)
		}
	}
	powers(&k)
	genericSelect(&k)
	genericReduce(&k)
	genericMove(&k)
	genericConvert(&k)
	return k
}

// spread is how many copies of a scalar the generic kernels make to use their loop over two vectors.
const spread = 128

// spreads holds memory for the copies: behind a call of a function value it would be allocated at each call.
var spreads = sync.Pool{New: func() any { return new([spread]uint32) }}

func copies(value unsafe.Pointer, n int) *[spread]uint32 {
	out := spreads.Get().(*[spread]uint32)
	fill(out[:min(n, spread)], *(*uint32)(value))
	return out
}

func scalarSecond(vv BinaryFunc) BinaryFunc {
	return func(dst, a, b unsafe.Pointer, n int) {
		if n <= 0 {
			return
		}
		all := copies(b, n)
		for i := 0; i < n; i += spread {
			vv(unsafe.Add(dst, 4*i), unsafe.Add(a, 4*i), unsafe.Pointer(all), min(spread, n-i))
		}
		spreads.Put(all)
	}
}

func scalarFirst(vv BinaryFunc) BinaryFunc {
	return func(dst, a, b unsafe.Pointer, n int) {
		if n <= 0 {
			return
		}
		all := copies(a, n)
		for i := 0; i < n; i += spread {
			vv(unsafe.Add(dst, 4*i), unsafe.Pointer(all), unsafe.Add(b, 4*i), min(spread, n-i))
		}
		spreads.Put(all)
	}
}

// unary and binary make kernels from functions of one lane; used where the function costs more than a call.
func unary[T, R lane](f func(T) R) UnaryFunc {
	return func(dst, x unsafe.Pointer, n int) {
		d, a := slice[R](dst, n), slice[T](x, n)
		for i, v := range a {
			d[i] = f(v)
		}
	}
}

func binary[T lane](f func(a, b T) T) BinaryFunc {
	return func(dst, a, b unsafe.Pointer, n int) {
		d, x, y := slice[T](dst, n), slice[T](a, n), slice[T](b, n)
		for i, v := range x {
			d[i] = f(v, y[i])
		}
	}
}

func mask(b bool) int32 {
	if b {
		return -1
	}
	return 0
}

func add[T lane](dst, a, b unsafe.Pointer, n int) {
	d, x, y := slice[T](dst, n), slice[T](a, n), slice[T](b, n)
	for i, v := range x {
		d[i] = v + y[i]
	}
}

func sub[T lane](dst, a, b unsafe.Pointer, n int) {
	d, x, y := slice[T](dst, n), slice[T](a, n), slice[T](b, n)
	for i, v := range x {
		d[i] = v - y[i]
	}
}

func mul[T lane](dst, a, b unsafe.Pointer, n int) {
	d, x, y := slice[T](dst, n), slice[T](a, n), slice[T](b, n)
	for i, v := range x {
		d[i] = v * y[i]
	}
}

func larger[T lane](dst, a, b unsafe.Pointer, n int) {
	d, x, y := slice[T](dst, n), slice[T](a, n), slice[T](b, n)
	for i, v := range x {
		d[i] = max(v, y[i])
	}
}

func smaller[T lane](dst, a, b unsafe.Pointer, n int) {
	d, x, y := slice[T](dst, n), slice[T](a, n), slice[T](b, n)
	for i, v := range x {
		d[i] = min(v, y[i])
	}
}

func equal[T lane](dst, a, b unsafe.Pointer, n int) {
	d, x, y := slice[int32](dst, n), slice[T](a, n), slice[T](b, n)
	for i, v := range x {
		d[i] = mask(v == y[i])
	}
}

func unequal[T lane](dst, a, b unsafe.Pointer, n int) {
	d, x, y := slice[int32](dst, n), slice[T](a, n), slice[T](b, n)
	for i, v := range x {
		d[i] = mask(v != y[i])
	}
}

func less[T lane](dst, a, b unsafe.Pointer, n int) {
	d, x, y := slice[int32](dst, n), slice[T](a, n), slice[T](b, n)
	for i, v := range x {
		d[i] = mask(v < y[i])
	}
}

func lessEqual[T lane](dst, a, b unsafe.Pointer, n int) {
	d, x, y := slice[int32](dst, n), slice[T](a, n), slice[T](b, n)
	for i, v := range x {
		d[i] = mask(v <= y[i])
	}
}

func greater[T lane](dst, a, b unsafe.Pointer, n int)      { less[T](dst, b, a, n) }
func greaterEqual[T lane](dst, a, b unsafe.Pointer, n int) { lessEqual[T](dst, b, a, n) }

// fma is a*b+c rounded once. The product is exact in float64; the sum is rounded there to odd (the last bit says that something
// was cut off), after which the rounding to float32 is right.
func fma(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	s := p + q
	back := s - p
	lost := (p - (s - back)) + (q - back)
	if lost == 0 || lost != lost {
		return float32(s)
	}
	if bits := math.Float64bits(s); bits&1 == 0 {
		if (lost > 0) == (s > 0) {
			bits++
		} else {
			bits--
		}
		s = math.Float64frombits(bits)
	}
	return float32(s)
}
