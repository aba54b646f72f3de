package optimizer

import (
	"fmt"
	"hash/fnv"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/param"
)

// A group's members are in order of their paths, so that stacked state belongs to the same members in every process.

// maxGroupElements bounds the elements stacked in one value, so that the copies made for stacking stay small beside the
// model: 16 Mi elements are 64 MiB in float32. A larger variable is a group of its own and is not copied.
const maxGroupElements = 16 << 20

// member is one parameter of a group: a variable, or the two factors of a pair.
type member struct {
	path string // sorts members; of a pair, its layer
	vars []*mlmodel.Variable
}

// Group is the parameters that one rule updates together.
type Group struct {
	// FanOut and FanIn are the dimensions of the weight W of every member; zero in the Flat layout.
	FanOut, FanIn int
	// Rank is the pairs' rank; zero in other layouts.
	Rank int
	// Scale is s of the pairs W_pre + s·A Bᵀ; 1 in other layouts.
	Scale float64

	to         assignment
	transposed bool
	members    []member
}

// Len returns the number of members.
func (gr *Group) Len() int { return len(gr.members) }

// Dims returns the dimensions of the group's values in its rule's layout.
func (gr *Group) Dims() [][]int {
	k := len(gr.members)
	switch gr.to.rule.Layout() {
	case Dense:
		return [][]int{{k, gr.FanOut, gr.FanIn}}
	case Paired:
		return [][]int{{k, gr.FanOut, gr.Rank}, {k, gr.FanIn, gr.Rank}}
	}
	return [][]int{{gr.elements()}}
}

func (gr *Group) elements() int {
	n := 0
	for _, m := range gr.members {
		for _, v := range m.vars {
			n += v.Shape().Size()
		}
	}
	return n
}

// Name is unique among an optimizer's groups and the same in every process: the rule, the shape, the number of members
// and a hash of their paths, so that state is never applied to other members than it was gathered for.
func (gr *Group) Name() string {
	hash := fnv.New32a()
	for _, m := range gr.members {
		fmt.Fprintf(hash, "%s\n", m.path)
	}
	shape := "flat"
	switch gr.to.rule.Layout() {
	case Dense:
		shape = fmt.Sprintf("%dx%d", gr.FanOut, gr.FanIn)
	case Paired:
		shape = fmt.Sprintf("%dx%d_r%d", gr.FanOut, gr.FanIn, gr.Rank)
	}
	return fmt.Sprintf("%s/%s_n%d_%08x", gr.to.rule.Name(), shape, len(gr.members), hash.Sum32())
}

// values returns the number of stacked values, which is also the number of variables of a member.
func (gr *Group) values() int {
	if gr.to.rule.Layout() == Paired {
		return 2
	}
	return 1
}

// stack puts one node per member and variable, node(v), into the rule's layout, in the dtype that steps are computed in.
func (gr *Group) stack(dtype dtypes.DType, node func(*mlmodel.Variable) *Node) []*Node {
	flat := gr.to.rule.Layout() == Flat
	stacked := make([]*Node, gr.values())
	for i := range stacked {
		parts := make([]*Node, len(gr.members))
		for k, m := range gr.members {
			x := node(m.vars[i])
			switch {
			case flat:
				x = Reshape(x, x.Shape().Size())
			case gr.transposed:
				x = Transpose(x, 0, 1)
			}
			parts[k] = as(dtype, x)
		}
		switch {
		case flat:
			stacked[i] = Concatenate(parts, 0)
		case len(parts) == 1:
			stacked[i] = ExpandAxes(parts[0], 0)
		default:
			stacked[i] = Stack(parts, 0)
		}
	}
	return stacked
}

// assign stores the members' slices of the stacked values as the variables' new values.
func (gr *Group) assign(stacked []*Node) {
	gr.unstack(stacked, func(v *mlmodel.Variable, x *Node) { v.SetNodeValue(as(v.DType(), x)) })
}

// unstack calls do with each member's slices of the stacked values, in the shapes of the variables.
func (gr *Group) unstack(stacked []*Node, do func(v *mlmodel.Variable, x *Node)) {
	flat := gr.to.rule.Layout() == Flat
	offset := 0
	for k, m := range gr.members {
		for i, v := range m.vars {
			var x *Node
			if flat {
				n := v.Shape().Size()
				x = SliceAxis(stacked[i], 0, AxisRange(offset, offset+n))
				offset += n
			} else {
				x = Reshape(SliceAxis(stacked[i], 0, AxisElem(k)), stacked[i].Shape().Dimensions[1:]...)
				if gr.transposed {
					x = Transpose(x, 0, 1)
				}
			}
			do(v, Reshape(x, v.Shape().Dimensions...))
		}
	}
}

func as(dtype dtypes.DType, x *Node) *Node {
	if x.DType() == dtype {
		return x
	}
	return ConvertDType(x, dtype)
}

// groupKey is what members of one group share.
type groupKey struct {
	rule          Rule
	rate          rateName
	multiple      float64
	fanOut, fanIn int
	rank          int
	scale         float64
	transposed    bool
}

// key returns what the members grouped with m share; spec describes its first variable.
func (a assignment) key(m member, spec param.Spec) groupKey {
	k := groupKey{rule: a.rule, rate: a.rate, multiple: a.multiple, scale: 1}
	switch a.rule.Layout() {
	case Dense:
		k.fanOut, k.fanIn, k.transposed = spec.FanOut, spec.FanIn, spec.Transposed
	case Paired:
		k.fanOut, k.fanIn, k.scale = spec.FanOut, spec.FanIn, spec.S()
		k.rank = m.vars[0].Shape().Dim(-1)
	}
	return k
}
