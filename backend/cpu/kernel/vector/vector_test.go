package vector

import (
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
