package vector

import (
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

func TestOpNames(t *testing.T) {
	seen := map[string]bool{}
	for op := range Count {
		if name := op.String(); name == "" || seen[name] {
			t.Errorf("operation %d has the name %q", op, name)
		} else {
			seen[name] = true
		}
	}
	if MaskFromFloat.String() != "MaskFromFloat" || Xor.String() != "Xor" || Div.String() != "Div" {
		t.Error("the names are shifted against the constants")
	}
}

// Each instruction has kernels of one or of two operands.
func TestEveryInstruction(t *testing.T) {
	for level := range feature.AVX512 + 1 {
		k := For(level)
		for op := range Count {
			two := k.VV[op] != nil && k.VS[op] != nil && k.SV[op] != nil
			if (k.Unary[op] != nil) == two || (k.VV[op] != nil) != two {
				t.Errorf("%s %s: unary %t, binary %t", level, op, k.Unary[op] != nil, two)
			}
		}
	}
}

// TestPowers: the exponents that have code of their own give the same as the general kernel.
func TestPowers(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	const n = 3000
	x := words(r, n)
	for _, y := range []float32{2, 3, -1, 0.5, -0.5, 1.5, 0} {
		all := make([]float32, n)
		fill(all, y)
		for _, level := range levelsHere() {
			k := For(level)
			one, many := make([]uint32, n), make([]uint32, n)
			k.VS[Pow](unsafe.Pointer(&one[0]), unsafe.Pointer(&x[0]), unsafe.Pointer(&y), n)
			k.VV[Pow](unsafe.Pointer(&many[0]), unsafe.Pointer(&x[0]), unsafe.Pointer(&all[0]), n)
			if p := same(one, many, true); p != "" {
				t.Errorf("%s, exponent %g: %s", level, y, p)
			}
		}
	}
}

func TestGenericSmoke(t *testing.T) {
	k := For(feature.Generic)
	x, y, d := []float32{1, 2, -3}, []float32{4, 0.5, 1}, make([]float32, 3)
	k.VV[Add](unsafe.Pointer(&d[0]), unsafe.Pointer(&x[0]), unsafe.Pointer(&y[0]), 3)
	if d[0] != 5 || d[1] != 2.5 || d[2] != -2 {
		t.Errorf("sum %v", d)
	}
	k.SumRows(unsafe.Pointer(&d[0]), unsafe.Pointer(&x[0]), 1, 3)
	if d[0] != 0 {
		t.Errorf("sum of the row %v", d[0])
	}
}

// TestNoAllocations: kernels are called for every tile.
func TestNoAllocations(t *testing.T) {
	x, d := make([]float32, 600), make([]float32, 600)
	px, pd := unsafe.Pointer(&x[0]), unsafe.Pointer(&d[0])
	dims, to, from := []int{3, 4, 5}, []int{20, 5, 1}, []int{1, 3, 12}
	for _, level := range levelsHere() {
		k := For(level)
		for name, f := range map[string]func(){
			"Sin":         func() { k.Unary[Sin](pd, px, 600) },
			"Exp":         func() { k.Unary[Exp](pd, px, 600) },
			"Add":         func() { k.VV[Add](pd, px, px, 600) },
			"Mul":         func() { k.VS[Mul](pd, px, px, 600) },
			"SumRows":     func() { k.SumRows(pd, px, 2, 300) },
			"Transpose2D": func() { k.Transpose2D(pd, px, 20, 30, 20, 30) },
			"CopyStrided": func() { k.CopyStridedAt(pd, px, 4, dims, to, from) },
		} {
			if n := testing.AllocsPerRun(100, f); n >= 1 {
				t.Errorf("%s: %s allocates %g times", level, name, n)
			}
		}
	}
}
