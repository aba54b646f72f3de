package optimizer

import (
	"fmt"
	"math"
	"slices"
	"strings"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/param"
)

// ProtectedScope is where the store keeps the directions of Protect: /protected/LAYER/U and V, not trainable, a direction a row.
const ProtectedScope = "/protected"

// newDirection is the part of a column, relative to its length, that must be outside the span of those before it for it to count:
// float32 leaves 1e-7.
const newDirection = 1e-5

// Protect keeps what past tasks use of a layer's weight W from being moved by lora-muon-ogd: Uᵀ W V stays as it is, for u [m, p]
// and v [n, q], float32, whose columns span the past directions of W's outputs and inputs. An earlier adapter's are the columns of
// its factors, or the singular vectors of its product.
//
// The store must hold the layer's pair. Directions add to those of earlier calls: then every left direction is kept apart
// from every right one, of whatever task. They are made orthonormal, and columns that depend on others to 1e-5 are left out; when
// nothing of u or v remains, as of an adapter's layer that never moved, the layer stays free.
// Call it before training, and again with the same arguments in the same order before a run is resumed: the optimizer's
// state depends on their number. It returns an error for an unknown layer, shapes that are not W's, and values that are not finite.
func Protect(store *mlmodel.Store, layer string, u, v *tensors.Tensor) error {
	spec, err := pairOf(store, layer)
	if err != nil {
		return fmt.Errorf("protect directions: %w", err)
	}
	var rows [2][][]float64
	for i, side := range []struct {
		name  string
		x     *tensors.Tensor
		width int
		what  string
	}{{"U", u, spec.FanOut, "fan-out"}, {"V", v, spec.FanIn, "fan-in"}} {
		x := side.x
		if x.Rank() != 2 || x.Shape().Dim(0) != side.width {
			return fmt.Errorf("protect directions of layer %s: %s has the shape %v, want %d rows, the %s",
				layer, side.name, x.Shape().Dimensions, side.width, side.what)
		}
		flat, err := tensors.CopyFlatData[float32](x)
		if err != nil {
			return fmt.Errorf("protect directions of layer %s: %s: %w", layer, side.name, err)
		}
		if problem := notFinite(x); problem != "" {
			return fmt.Errorf("protect directions of layer %s: %s%s, want finite numbers", layer, side.name, problem)
		}
		if rows[i], err = directionsOf(store, layer, side.name); err != nil {
			return err
		}
		rows[i] = extend(rows[i], flat, side.width)
	}
	if len(rows[0]) == 0 || len(rows[1]) == 0 {
		return nil
	}
	for i, name := range []string{"U", "V"} {
		var flat []float32
		for _, row := range rows[i] {
			for _, value := range row {
				flat = append(flat, float32(value))
			}
		}
		path := protectedPath(layer, name)
		if store.GetVariable(path) != nil {
			if err := store.DeleteVariable(path); err != nil {
				return fmt.Errorf("protect directions of layer %s: %w", layer, err)
			}
		}
		store.VariableWithValue(path, tensors.FromFlatDataAndDimensions(flat, len(rows[i]), len(rows[i][0]))).SetTrainable(false)
	}
	return nil
}

// Protected returns how many left and right directions of a layer are protected.
func Protected(store mlmodel.StoreProvider, layer string) (left, right int) {
	u, v := store.Store().GetVariable(protectedPath(layer, "U")), store.Store().GetVariable(protectedPath(layer, "V"))
	if u == nil || v == nil {
		return 0, 0
	}
	return u.Shape().Dim(0), v.Shape().Dim(0)
}

func protectedPath(layer, name string) string { return ProtectedScope + param.Path(layer) + "/" + name }

// pairOf returns the description of a layer's pair.
func pairOf(store *mlmodel.Store, layer string) (param.Spec, error) {
	var layers []string
	for v := range store.IterVariables() {
		spec, tagged, err := param.Lookup(store, v)
		switch {
		case err != nil:
			return param.Spec{}, err
		case !tagged || spec.Role != param.Pair:
		case spec.Layer == layer:
			return spec, nil
		case !slices.Contains(layers, spec.Layer):
			layers = append(layers, spec.Layer)
		}
	}
	slices.Sort(layers)
	switch {
	case len(layers) == 0:
		return param.Spec{}, fmt.Errorf("layer %q has no low-rank pair, nor has any other", layer)
	case len(layers) > 5:
		return param.Spec{}, fmt.Errorf("layer %q has no low-rank pair; %d others have, such as %s", layer, len(layers), layers[0])
	}
	return param.Spec{}, fmt.Errorf("layer %q has no low-rank pair; those that have: %s", layer, strings.Join(layers, ", "))
}

// directionsOf returns the directions that are protected already, a row each.
func directionsOf(store *mlmodel.Store, layer, name string) ([][]float64, error) {
	v := store.GetVariable(protectedPath(layer, name))
	if v == nil {
		return nil, nil
	}
	value, err := v.Value()
	if err != nil {
		return nil, fmt.Errorf("protect directions of layer %s: %w", layer, err)
	}
	flat, err := tensors.CopyFlatData[float32](value)
	if err != nil {
		return nil, fmt.Errorf("protect directions of layer %s: %w", layer, err)
	}
	rows := make([][]float64, v.Shape().Dim(0))
	for i := range rows {
		for _, x := range flat[i*len(flat)/len(rows) : (i+1)*len(flat)/len(rows)] {
			rows[i] = append(rows[i], float64(x))
		}
	}
	return rows, nil
}

// extend adds to orthonormal rows the columns of a matrix of the given number of rows, made orthonormal by Gram-Schmidt, each
// twice.
func extend(rows [][]float64, flat []float32, width int) [][]float64 {
	columns := len(flat) / width
	for j := range columns {
		x := make([]float64, width)
		for i := range x {
			x[i] = float64(flat[i*columns+j])
		}
		length := norm(x)
		for range 2 {
			for _, row := range rows {
				along := 0.0
				for i, value := range row {
					along += value * x[i]
				}
				for i, value := range row {
					x[i] -= along * value
				}
			}
		}
		left := norm(x)
		if !(left > newDirection*length) {
			continue
		}
		for i := range x {
			x[i] /= left
		}
		rows = append(rows, x)
	}
	return rows
}

func norm(x []float64) (n float64) {
	for _, value := range x {
		n = math.Hypot(n, value)
	}
	return n
}

// placed is a rule that depends on what the store holds beside a layer.
type placed interface {
	// at returns the rule of the given layer.
	at(store mlmodel.StoreProvider, spec param.Spec) (Rule, error)
}

// place returns the rule of a variable's layer. Protected directions under a configuration that would move them are an error.
func (a assignment) place(cfg Config, store mlmodel.StoreProvider, spec param.Spec) (assignment, error) {
	if spec.Role != param.Pair {
		return a, nil
	}
	rule, ok := a.rule.(placed)
	if left, _ := Protected(store, spec.Layer); left > 0 {
		switch {
		case !ok:
			return a, fmt.Errorf("layer %s has protected directions, which only %s leaves as they are", spec.Layer, loraMuonOGDName)
		case cfg.SpectralBudget > 0:
			return a, fmt.Errorf("layer %s has protected directions, which a spectral budget would move", spec.Layer)
		}
	}
	if !ok {
		return a, nil
	}
	var err error
	a.rule, err = rule.at(store, spec)
	return a, err
}

// directions returns the protected directions of the group's members as rows, [k, p, m] and [k, q, n].
func (s *Step) directions() (u, v *Node) {
	stacked := func(name string) *Node {
		var parts []*Node
		for _, m := range s.Group.members {
			variable := s.scope.Store().GetVariable(protectedPath(m.path, name)).SetTrainable(false)
			parts = append(parts, as(s.Rate.DType(), variable.NodeValue(s.Rate.Graph())))
		}
		return Stack(parts, 0)
	}
	return stacked("U"), stacked("V")
}

// protect protects the directions U and V of a pair among tensors held by name, where its rule can.
func (u *unit) protect(o *Optimizer, in map[string]*tensors.Tensor) error {
	to, _ := o.entry.route(o.cfg, u.specs[0])
	if _, ok := to.rule.(placed); !ok || u.specs[0].Role != param.Pair {
		return nil
	}
	u.also = []string{"U", "V"}
	left, right := in["U"], in["V"]
	switch {
	case left == nil && right == nil:
		return nil
	case left == nil || right == nil:
		return fmt.Errorf("past directions are U and V, but only one of them is there: %s", list(in))
	}
	return Protect(u.store, u.specs[0].Layer, left, right)
}
