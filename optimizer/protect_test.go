package optimizer

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/checkpoint"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
	"github.com/polargo/polar/param"
)

// columnsOf returns some columns of x.
func columnsOf(x *mat.Dense, columns ...int) *mat.Dense {
	rows, _ := x.Dims()
	out := mat.NewDense(rows, len(columns), nil)
	for i := range rows {
		for j, column := range columns {
			out.Set(i, j, x.At(i, column))
		}
	}
	return out
}

// TestProtectSpans: protected directions are an orthonormal basis of all columns that were given, dependent and zero ones left out.
func TestProtectSpans(t *testing.T) {
	const tol = 1e-5 // float32, and columns within 1e-5 of others are left out
	rng := random(1, 17)
	store := newStore(t, pair("a.layer", gaussian(rng, 12, 3), gaussian(rng, 9, 3), 1)...)
	u, v := scaled(1e-3, gaussian(rng, 12, 5)), scaled(100, gaussian(rng, 9, 4))
	u.SetCol(3, columnsOf(add(u, scaled(2, u)), 1).RawMatrix().Data) // three times the second
	u.SetCol(4, make([]float64, 12))
	if left, right := Protected(store, "a.layer"); left != 0 || right != 0 {
		t.Errorf("%d and %d directions before any", left, right)
	}
	protect(t, store, "a.layer", columnsOf(u, 0, 4), columnsOf(v, 0))
	protect(t, store, "a.layer", columnsOf(u, 1, 3, 0), columnsOf(v, 0, 1, 2))
	protect(t, store, "a.layer", u, v)
	if left, right := Protected(store, "a.layer"); left != 3 || right != 4 {
		t.Fatalf("%d and %d directions, want 3 and 4", left, right)
	}
	for _, side := range []struct {
		name string
		want *mat.Dense
	}{{"U", columnsOf(u, 0, 1, 2)}, {"V", v}} {
		basis := mat.DenseCopyOf(get(t, store, "/protected/a/layer/"+side.name).T())
		_, count := basis.Dims()
		gram := mul(basis.T(), basis)
		for i := range count {
			gram.Set(i, i, gram.At(i, i)-1)
		}
		left := sub(side.want, mul(basis, mul(basis.T(), side.want)))
		if !(mat.Norm(gram, 2) <= tol) || !(mat.Norm(left, 2) <= tol*mat.Norm(side.want, 2)) {
			t.Errorf("%s: %.1e from orthonormal, %.1e of the directions outside", side.name, mat.Norm(gram, 2), mat.Norm(left, 2)/mat.Norm(side.want, 2))
		}
		if store.GetVariable("/protected/a/layer/" + side.name).Trainable {
			t.Errorf("%s is trainable", side.name)
		}
	}
	empty := newStore(t, pair("layer", gaussian(rng, 12, 3), gaussian(rng, 9, 3), 1)...)
	protect(t, empty, "layer", u, mat.NewDense(9, 2, nil))
	if left, right := Protected(empty, "layer"); left != 0 || right != 0 {
		t.Errorf("%d and %d directions of a product that is zero", left, right)
	}
}

// TestProtectRefuses: unknown layers, shapes that are not the layer's and values that are not finite are named.
func TestProtectRefuses(t *testing.T) {
	rng := random(2, 17)
	values := append(pair("layer", gaussian(rng, 12, 3), gaussian(rng, 9, 3), 1), pair("other", gaussian(rng, 4, 2), gaussian(rng, 5, 2), 1)...)
	store := newStore(t, values...)
	bad := gaussian(rng, 9, 2)
	bad.Set(3, 1, math.NaN())
	for _, c := range []struct {
		name, layer string
		u, v        *mat.Dense
		want        string
	}{
		{"layer", "lair", gaussian(rng, 12, 1), gaussian(rng, 9, 1), `layer "lair" has no low-rank pair; those that have: layer, other`},
		{"fan-out", "layer", gaussian(rng, 9, 1), gaussian(rng, 9, 1), "U has the shape [9 1], want 12 rows, the fan-out"},
		{"fan-in", "layer", gaussian(rng, 12, 1), gaussian(rng, 12, 1), "V has the shape [12 1], want 9 rows, the fan-in"},
		{"nan", "layer", gaussian(rng, 12, 1), bad, "V[3 1] is nan"},
	} {
		err := Protect(store, c.layer, tensorOf(c.u), tensorOf(c.v))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	if err := Protect(mlmodel.NewStore(), "layer", tensorOf(bad), tensorOf(bad)); err == nil || !strings.Contains(err.Error(), "no low-rank pair") {
		t.Errorf("error %v of an empty store", err)
	}
	protect(t, store, "layer", gaussian(rng, 12, 2), gaussian(rng, 9, 2))
	budget := setting(t, loraMuonOGDName, func(c *Config) { c.SpectralBudget = 1 })
	if _, err := mustNew(t, budget).Routes(store); err == nil || !strings.Contains(err.Error(), "which a spectral budget would move") {
		t.Errorf("error %v of a spectral budget", err)
	}
	for _, info := range Known() {
		_, err := mustNew(t, setting(t, info.Name)).Routes(store)
		if !info.Pairs || info.Name == loraMuonOGDName {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "protected directions") {
			t.Errorf("%s moves a layer whose directions are protected: error %v", info.Name, err)
		}
	}
}

// TestProtectedContinues: a store with directions, saved and restored after 3 steps, goes on to the same bits, multiplier included.
func TestProtectedContinues(t *testing.T) {
	rng := random(3, 17)
	values := append(pair("l1", gaussian(rng, 10, 3), gaussian(rng, 6, 3), 2), pair("l2", gaussian(rng, 10, 3), gaussian(rng, 6, 3), 2)...)
	u, v := gaussian(rng, 10, 2), gaussian(rng, 6, 2)
	cfg := setting(t, loraMuonOGDName)
	fresh := func() *mlmodel.Store {
		store := newStore(t, values...)
		protect(t, store, "l1", u, v)
		protect(t, store, "l2", swapped(u), swapped(v))
		return store
	}
	steps := func(store *mlmodel.Store, from, to int) {
		s := newStepper(t, store, mustNew(t, cfg), paths(values)...)
		for seed := from; seed < to; seed++ {
			s.step(t, gradients(values, 1, seed)...)
		}
	}
	whole, part := fresh(), fresh()
	steps(whole, 0, 6)
	steps(part, 0, 3)
	dir := t.TempDir()
	if err := must[*checkpoint.Handler](t)(checkpoint.Build(part).Dir(dir).Immediate().Done()).Save(); err != nil {
		t.Fatal(err)
	}
	restored := mlmodel.NewStore()
	must[*checkpoint.Handler](t)(checkpoint.Build(restored).Dir(dir).Immediate().Done())
	routes := must[[]Route](t)(mustNew(t, cfg).Routes(restored))
	if len(routes) != len(values) {
		t.Errorf("%d routes in the restored store, want %d", len(routes), len(values))
	}
	total := int64(0)
	for _, r := range routes {
		total += r.StateBytes
	}
	if kept := stateBytes(part); kept != total || kept != 4*2*(3*(10+6)+2*2) {
		t.Errorf("routes say %d bytes of state, the store has %d", total, kept)
	}
	steps(restored, 3, 6)
	for _, v := range values {
		if e := relative(get(t, restored, v.path), get(t, whole, v.path)); e != 0 {
			t.Errorf("%s: %.1e from the uninterrupted run", v.path, e)
		}
	}
	forgetful := fresh()
	for v := range part.IterVariables() {
		if !strings.HasSuffix(v.Path(), "/lambda") {
			forgetful.DeleteVariable(v.Path())
			made := forgetful.VariableWithValue(v.Path(), must[*tensors.Tensor](t)(v.MustValue().LocalClone())).SetTrainable(v.Trainable)
			if i := slices.IndexFunc(values, func(x value) bool { return x.path == v.Path() }); i >= 0 {
				if err := param.Tag(forgetful, made, values[i].spec); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	steps(forgetful, 3, 6)
	if relative(get(t, forgetful, values[0].path), get(t, whole, values[0].path)) == 0 {
		t.Error("the same without the multiplier")
	}
}

// swapped returns x with its first two rows exchanged.
func swapped(x *mat.Dense) *mat.Dense {
	out := mat.DenseCopyOf(x)
	out.SetRow(0, x.RawRowView(1))
	out.SetRow(1, x.RawRowView(0))
	return out
}

// TestTensorStepProtects: U and V among the tensors are past directions; lambda comes out and goes in.
func TestTensorStepProtects(t *testing.T) {
	const tol = 1e-6 // float32 factors, of condition number 3
	in := pairTensors(t, 3)
	rng := random(4, 17)
	in["U"], in["V"] = gaussian(rng, 40, 3), gaussian(rng, 30, 4)
	step := TensorStep{Config: setting(t, loraMuonOGDName, func(c *Config) { c.Exact, c.LearningRate, c.Scale = true, 0.3, "none" }), Count: 1}
	out := step.run(t, in)
	moved := along([]*mat.Dense{in["A"], in["B"]}, []*mat.Dense{out["A"], out["B"]},
		must[*mat.Dense](t)(oracle.Msign(in["U"])), must[*mat.Dense](t)(oracle.Msign(in["V"])))
	rows, cols := out["lambda"].Dims()
	if !(moved <= tol) || rows*cols != 12 || mat.Norm(out["lambda"], 2) == 0 || relative(out["U"], in["U"]) != 0 {
		t.Errorf("%.1e of the step along U and V, lambda %d x %d of norm %g", moved, rows, cols, mat.Norm(out["lambda"], 2))
	}
	delete(in, "U")
	delete(in, "V")
	plain := step
	plain.Config.Name = "lora-muon"
	if e := relative(step.run(t, in)["A"], plain.run(t, in)["A"]); e != 0 {
		t.Errorf("without directions %.1e from lora-muon", e)
	}
	in["V"] = gaussian(rng, 30, 4)
	if _, err := step.Run(check.Backend(t), in.tensors()); err == nil || !strings.Contains(err.Error(), "only one of them is there") {
		t.Errorf("V alone: error %v", err)
	}
	in["U"] = gaussian(rng, 30, 4)
	if _, err := step.Run(check.Backend(t), in.tensors()); err == nil || !strings.Contains(err.Error(), "want 40 rows") {
		t.Errorf("U of the wrong width: error %v", err)
	}
	if _, err := plain.Run(check.Backend(t), in.tensors()); err == nil || !strings.Contains(err.Error(), "unknown: U, V") {
		t.Errorf("lora-muon with directions: error %v", err)
	}
}
