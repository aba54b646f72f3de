package adapter

import (
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/polargo/polar/internal/vjp"
	"github.com/polargo/polar/param"
)

// Linear returns the linear function of the adapted model, for the model's options: y = x·Wᵀ + s·(x·B)·Aᵀ on adapted
// layers, (x·B)·Aᵀ for weights from scratch, x·Wᵀ on the others. x [..., fan-in] -> [..., fan-out] in x's type; the
// variables are those of store (the set's own or a copy of it). W + s·A Bᵀ is never formed, so that the backward pass
// never forms a dense gradient: 2(fan-out + fan-in)·r operations a row more than the base, and twice that backward.
// While building a graph it panics for a variable that is missing or after Attach without AdjustBase.
func (s *Set) Linear(store *mlmodel.Store) param.Linear {
	return func(x *Node, layer param.Layer) *Node {
		at, adapted := s.index[layer.Name]
		if !adapted || s.merged {
			return vjp.Times(x, variable(store, x, layer.Weight), 1)
		}
		if err := s.usable(); err != nil {
			panic(err)
		}
		p := s.pairs[at]
		a := variable(store, x, factorPath("/adapter", layer.Name, param.SideA))
		b := variable(store, x, factorPath("/adapter", layer.Name, param.SideB))
		narrow := vjp.Times(x, b, 0) // [..., r]
		if p.scale != 1 {
			narrow = MulScalar(narrow, p.scale)
		}
		low := vjp.Times(narrow, a, 1)
		if s.scratch {
			return low
		}
		return Add(vjp.Times(x, variable(store, x, layer.Weight), 1), low)
	}
}

// variable returns a variable's value in x's graph and type.
func variable(store *mlmodel.Store, x *Node, path string) *Node {
	v := store.GetVariable(path)
	if v == nil {
		exceptions.Panicf("adapter: the store has no variable %s", path)
	}
	return convert(v.NodeValue(x), x.DType())
}

func convert(value *Node, dtype dtypes.DType) *Node {
	if value.DType() == dtype {
		return value
	}
	return ConvertDType(value, dtype)
}
