package vector

import (
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

// inGo are instructions that stay in Go at the levels with assembly.
var inGo = map[Op]string{Pow: "all", Rem: "all", Atan2: "all", DivInt: "all", RemInt: "all", DivUint: "all", RemUint: "all",
	PopulationCount: "all", LeadingZeros: "avx2", FloatFromUint: "avx2", UintFromFloat: "avx2"}

// wrapped are kernels in Go around one of assembly.
var wrapped = map[Op]bool{Sin: true, Cos: true}

func nameOf(f any) string {
	name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	return name[strings.LastIndex(name, "/")+1:]
}

// TestReached fails if a level's kernels are not its own.
func TestReached(t *testing.T) {
	for _, level := range levelsHere()[1:] {
		k := For(level)
		if k.Level != level {
			t.Skipf("built without assembly: the kernels of %s are %s", level, k.Level)
		}
		prefix := "vector." + level.String()
		for op := range Count {
			if where := inGo[op]; where == "all" || where == level.String() {
				continue
			}
			for _, f := range []any{k.Unary[op], k.VV[op], k.VS[op], k.SV[op]} {
				if reflect.ValueOf(f).IsNil() {
					continue
				}
				if name := nameOf(f); !strings.HasPrefix(name, prefix+op.String()) && !wrapped[op] {
					t.Errorf("%s %s is %s", level, op, name)
				}
			}
		}
		for _, f := range []any{k.Select, k.SelectVS, k.SelectSV, k.SelectSS, k.MulAddVVV, k.MulAddVSV, k.MulAddVVS, k.MulAddVSS,
			k.SumRows, k.MaxRows, k.MinRows, k.ProdRows, k.DotRows, k.AddColumns, k.MaxColumns, k.MinColumns, k.MulAddColumns,
			k.Fill, k.Repeat, k.Tile, k.Copy2D, k.Transpose2D} {
			if name := nameOf(f); !strings.HasPrefix(name, prefix) {
				t.Errorf("%s: a field is %s", level, name)
			}
		}
	}
	if feature.Detected() == feature.Generic {
		t.Skip("this processor has neither AVX2 nor AVX-512: nothing to reach")
	}
}
