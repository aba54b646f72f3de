//go:build amd64 && !noasm

package gemm

import (
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

// layouts of operands for TestCases.
func spec(m, k, n int, layout string) Spec {
	s := Spec{M: m, N: n, K: k}
	view := func(kind byte, rows, cols int) View {
		switch kind {
		case 'T':
			return View{1, rows}
		case 'W': // wide: neither is 1
			return View{2 * cols, 2}
		}
		return View{cols, 1}
	}
	s.A, s.B, s.C = view(layout[0], m, k), view(layout[1], k, n), view(layout[2], m, n)
	return s
}

func (s Spec) times(batch int) Spec {
	for i := range batch {
		s.AOffsets = append(s.AOffsets, i*extent(zero, s.A, s.M, s.K))
		s.BOffsets = append(s.BOffsets, i*extent(zero, s.B, s.K, s.N))
		s.COffsets = append(s.COffsets, (batch-1-i)*extent(zero, s.C, s.M, s.N))
	}
	return s
}

func (s Spec) bf16() Spec       { s.BF16 = true; return s }
func (s Spec) accumulate() Spec { s.Accumulate = true; return s }

// TestCases: each case of the plan is reached, with the kernel meant for it, and gives the right numbers.
func TestCases(t *testing.T) {
	if feature.Detected() < feature.AVX512 {
		t.Skip("no AVX-512 on this processor")
	}
	r := rand.New(rand.NewPCG(9, 9))
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{spec(200, 300, 500, "NNN"), "avx512/f32 shared b"},
		{spec(200, 300, 500, "NTN"), "avx512/f32 shared b"},
		{spec(200, 300, 500, "TNN"), "avx512/f32 shared b, copied a"},
		{spec(200, 512, 500, "NNN"), "avx512/f32 shared b, copied a"},
		{spec(200, 300, 500, "NNT"), "avx512/f32 shared b, copied a, swapped"},
		{spec(200, 300, 500, "NNW"), "avx512/f32 shared b, tiled c"},
		{spec(60, 2900, 600, "NWN"), "avx512/f32 shared b"}, // K in passes
		{spec(60, 2900, 600, "NNW").accumulate(), "avx512/f32 shared b, tiled c"},
		{spec(200, 100, 40, "NNN"), "avx512/f32 direct b"},
		{spec(16, 700, 150, "NNN"), "avx512/f32 direct b"},
		{spec(16, 1024, 150, "NNN"), "avx512/f32 direct b, copied a"},
		{spec(16, 700, 150, "NTN"), "avx512/f32 local b"},
		{spec(16, 1400, 16, "TNN"), "avx512/f32 direct b"},
		{spec(1, 700, 300, "NNN"), "avx512/f32 direct b"},
		{spec(1, 700, 300, "NTN"), "avx512/f32 dots"},
		{spec(300, 700, 1, "NNN"), "avx512/f32 dots, swapped"},
		{spec(6, 700, 300, "NTN").accumulate(), "avx512/f32 dots"},
		{spec(7, 700, 300, "NTN"), "avx512/f32 local b"},
		{spec(64, 64, 64, "NTN").times(30), "avx512/f32 local b"},
		{spec(64, 64, 64, "NNN").times(30), "avx512/f32 direct b"},
		{spec(200, 200, 300, "NTN").times(3), "avx512/f32 shared b"},
		{spec(200, 200, 300, "NTN").times(13), "avx512/f32 local b"},
		{spec(16, 16, 16, "NTN").times(100), "avx512/f32 local b"},
		{spec(200, 301, 500, "NNN").bf16(), "avx512/bf16 shared b, copied a"},
		{spec(200, 301, 500, "TTN").bf16(), "avx512/bf16 shared b, copied a"},
		{spec(30, 301, 50, "WWN").bf16(), "avx512/bf16 local b, copied a"},
		{spec(3, 301, 50, "NTN").bf16(), "avx512/bf16 dots"},
	} {
		if strings.Contains(c.want, "bf16") && !feature.BF16(feature.AVX512) {
			continue
		}
		if got := check[float32](t, r, c.spec, feature.AVX512)[0]; got != c.want {
			t.Errorf("%+v: %q, want %q", c.spec, got, c.want)
		}
		for _, level := range []feature.Level{feature.AVX2, feature.AVX512} {
			p := New[float32](c.spec, level)
			if !strings.HasPrefix(p.Kernel(), level.String()+"/") {
				t.Errorf("%q at level %v", p.Kernel(), level)
			}
		}
	}
	for _, level := range levels() {
		s := spec(130, 300, 200, "NNN")
		if got := check[float64](t, r, s, level)[0]; !strings.HasPrefix(got, level.String()+"/f64") {
			t.Errorf("%q at level %v", got, level)
		}
	}
}

// TestLayout: the offsets in the generator are those of the structs.
func TestLayout(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "_gen/main.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	structs := map[string]reflect.Type{"panel": reflect.TypeFor[panel[float32]](), "strip": reflect.TypeFor[strip[float32]](),
		"dots": reflect.TypeFor[dots[float32]]()}
	seen := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != len(spec.Names) {
			return true
		}
		for i, name := range spec.Names {
			for prefix, typ := range structs {
				rest, ok := strings.CutPrefix(name.Name, prefix)
				literal, constant := spec.Values[i].(*ast.BasicLit)
				if !ok || !constant {
					continue
				}
				field, ok := typ.FieldByName(strings.ToLower(rest[:1]) + rest[1:])
				if !ok || strconv.Itoa(int(field.Offset)) != literal.Value {
					t.Errorf("%s is %s, the field is at %d (found: %v)", name.Name, literal.Value, field.Offset, ok)
				}
				seen++
			}
		}
		return true
	})
	if seen < 25 {
		t.Errorf("compared only %d offsets", seen)
	}
}
