package vector

import (
	"math"
	"unsafe"
)

func genericFloat(k *Kernels) {
	k.VV[Add], k.VV[Sub], k.VV[Mul] = add[float32], sub[float32], mul[float32]
	k.VV[Div] = func(dst, a, b unsafe.Pointer, n int) {
		d, x, y := slice[float32](dst, n), slice[float32](a, n), slice[float32](b, n)
		for i, v := range x {
			d[i] = v / y[i]
		}
	}
	k.VV[Max], k.VV[Min] = larger[float32], smaller[float32]
	k.VV[Eq], k.VV[Ne], k.VV[Lt], k.VV[Le] = equal[float32], unequal[float32], less[float32], lessEqual[float32]
	k.VV[Gt], k.VV[Ge] = greater[float32], greaterEqual[float32]
	k.VV[Pow], k.VV[Rem], k.VV[Atan2] = binary(through2(math.Pow)), binary(through2(math.Mod)), binary(through2(math.Atan2))

	k.Unary[Neg] = xorBits(1 << 31)
	k.Unary[Abs] = func(dst, x unsafe.Pointer, n int) {
		d, a := slice[uint32](dst, n), slice[uint32](x, n)
		for i, v := range a {
			d[i] = v &^ (1 << 31)
		}
	}
	k.Unary[Sign] = unary(func(x float32) float32 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return 0
	})
	k.Unary[Floor], k.Unary[Ceil] = unary(through(math.Floor)), unary(through(math.Ceil))
	k.Unary[Round], k.Unary[Sqrt] = unary(through(math.RoundToEven)), unary(through(math.Sqrt))
	k.Unary[Rsqrt] = unary(func(x float32) float32 { return 1 / float32(math.Sqrt(float64(x))) })
	k.Unary[Reciprocal] = unary(func(x float32) float32 { return 1 / x })
	k.Unary[Square] = func(dst, x unsafe.Pointer, n int) { mul[float32](dst, x, x, n) }
	const exponent = 0xff << 23
	k.Unary[IsFinite] = unary(func(x uint32) int32 { return mask(x&exponent != exponent) })
	k.Unary[IsNaN] = unary(func(x float32) int32 { return mask(x != x) })
}

// through and through2 compute in float64.
func through(f func(float64) float64) func(float32) float32 {
	return func(x float32) float32 { return float32(f(float64(x))) }
}

func through2(f func(a, b float64) float64) func(a, b float32) float32 {
	return func(a, b float32) float32 { return float32(f(float64(a), float64(b))) }
}

func genericFunctions(k *Kernels) {
	for op, f := range map[Op]func(float64) float64{
		Exp: math.Exp, Expm1: math.Expm1, Log: math.Log, Log1p: math.Log1p, Tanh: math.Tanh, Logistic: logistic,
		Erf: math.Erf, Sin: math.Sin, Cos: math.Cos,
	} {
		k.Unary[op] = unary(through(f))
	}
}

func logistic(x float64) float64 {
	if x >= 0 {
		return 1 / (1 + math.Exp(-x))
	}
	e := math.Exp(x)
	return e / (1 + e)
}

// powers gives Pow by one exponent its usual cases. Each gives what math.Pow does, which takes the square root for halves too.
func powers(k *Kernels) {
	pow := k.VS[Pow]
	k.VS[Pow] = func(dst, a, b unsafe.Pointer, n int) {
		if n <= 0 {
			return
		}
		d, x := slice[float32](dst, n), slice[float32](a, n)
		switch y := *(*float32)(b); y {
		case 2:
			for i, v := range x {
				d[i] = v * v
			}
		case 3:
			for i, v := range x {
				w := float64(v)
				d[i] = float32(w * w * w)
			}
		case -1:
			for i, v := range x {
				d[i] = float32(1 / float64(v))
			}
		case 0.5, -0.5:
			for i, v := range x {
				switch w := float64(v); {
				case w == 0 || math.IsInf(w, 0):
					d[i] = float32(math.Pow(w, float64(y)))
				case y > 0:
					d[i] = float32(math.Sqrt(w))
				default:
					d[i] = float32(1 / math.Sqrt(w))
				}
			}
		default:
			pow(dst, a, b, n)
		}
	}
}

func genericSelect(k *Kernels) {
	k.Select = func(dst, mask, a, b unsafe.Pointer, n int) { choose(dst, mask, a, b, n, 1, 1) }
	k.SelectVS = func(dst, mask, a, b unsafe.Pointer, n int) { choose(dst, mask, a, b, n, 1, 0) }
	k.SelectSV = func(dst, mask, a, b unsafe.Pointer, n int) { choose(dst, mask, a, b, n, 0, 1) }
	k.SelectSS = func(dst, mask, a, b unsafe.Pointer, n int) { choose(dst, mask, a, b, n, 0, 0) }
	k.MulAddVVV = func(dst, a, b, c unsafe.Pointer, n int) { mulAdd(dst, a, b, c, n, 1, 1) }
	k.MulAddVSV = func(dst, a, b, c unsafe.Pointer, n int) { mulAdd(dst, a, b, c, n, 0, 1) }
	k.MulAddVVS = func(dst, a, b, c unsafe.Pointer, n int) { mulAdd(dst, a, b, c, n, 1, 0) }
	k.MulAddVSS = func(dst, a, b, c unsafe.Pointer, n int) { mulAdd(dst, a, b, c, n, 0, 0) }
}

// at is the i-th value for step 1, the only one for step 0.
func at[T lane](p unsafe.Pointer, i, step int) T { return *(*T)(unsafe.Add(p, 4*i*step)) }

// choose is Select with a step for each source.
func choose(dst, mask, a, b unsafe.Pointer, n, stepA, stepB int) {
	d, m := slice[int32](dst, n), slice[int32](mask, n)
	for i, v := range m {
		d[i] = at[int32](a, i, stepA)&v | at[int32](b, i, stepB)&^v
	}
}

func mulAdd(dst, a, b, c unsafe.Pointer, n, stepB, stepC int) {
	d, x := slice[float32](dst, n), slice[float32](a, n)
	for i, v := range x {
		d[i] = fma(v, at[float32](b, i, stepB), at[float32](c, i, stepC))
	}
}

func xorBits(bits uint32) UnaryFunc {
	return func(dst, x unsafe.Pointer, n int) {
		d, a := slice[uint32](dst, n), slice[uint32](x, n)
		for i, v := range a {
			d[i] = v ^ bits
		}
	}
}
