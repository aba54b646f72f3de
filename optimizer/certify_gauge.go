package optimizer

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/param"
	"gonum.org/v1/gonum/mat"
)

// Regauging says how a check of invariance changes the gauge of pairs.
type Regauging struct {
	// Condition is the condition number of the general gauge G, whose singular values are spread geometrically around 1 between
	// random orthonormal bases; all pairs of a rank get the same one.
	Condition float64
	// Scalar is c of the scalar gauge c·I.
	Scalar float64
	// Seed decides the random bases.
	Seed uint64
}

// DefaultRegauging changes the gauge by as much as that of factors differs between ordinary starts of an adapter.
var DefaultRegauging = Regauging{Condition: 10, Scalar: 10, Seed: 1}

func (r Regauging) check() error {
	if !(r.Condition >= 1) || math.IsInf(r.Condition, 0) {
		return fmt.Errorf("condition number of the gauge must be 1 or more and finite, got %g", r.Condition)
	}
	if !(r.Scalar > 0) || math.IsInf(r.Scalar, 0) {
		return fmt.Errorf("scalar gauge must be positive and finite, got %g", r.Scalar)
	}
	return nil
}

// general returns G and G⁻¹ [rank, rank].
func (r Regauging) general(rank int) (g, inverse *mat.Dense) {
	rng := rand.New(rand.NewPCG(r.Seed, uint64(rank)))
	basis := func() *mat.Dense {
		x := mat.NewDense(rank, rank, nil)
		for i := range rank {
			for j := range rank {
				x.Set(i, j, rng.NormFloat64())
			}
		}
		var qr mat.QR
		qr.Factorize(x)
		q := new(mat.Dense)
		qr.QTo(q)
		return q
	}
	u, v := basis(), basis()
	scaled := func(sign float64) *mat.Dense {
		out := mat.DenseCopyOf(u)
		for j := range rank {
			place := 0.5
			if rank > 1 {
				place -= float64(j) / float64(rank-1)
			}
			s := math.Pow(r.Condition, sign*place)
			for i := range rank {
				out.Set(i, j, s*out.At(i, j))
			}
		}
		return out
	}
	g, inverse = new(mat.Dense), new(mat.Dense)
	g.Mul(scaled(1), v.T())
	inverse.Mul(v, scaled(-1).T())
	return g, inverse
}

// scalar returns c·I and its inverse.
func (r Regauging) scalar(rank int) (g, inverse *mat.Dense) {
	g, inverse = mat.NewDense(rank, rank, nil), mat.NewDense(rank, rank, nil)
	for i := range rank {
		g.Set(i, i, r.Scalar)
		inverse.Set(i, i, 1/r.Scalar)
	}
	return g, inverse
}

// regauge takes factors, gradients and state of one graph to another gauge and steps back from it. The nil one changes nothing.
type regauge struct {
	g     *Graph
	gauge func(rank int) (g, inverse *mat.Dense)
	side  map[*mlmodel.Variable]param.Side // of the factors of pairs; other variables have no gauge
	made  map[string]*Node
}

func (c *Certifier) regauge(g *Graph, gauge func(rank int) (g, inverse *mat.Dense)) *regauge {
	return &regauge{g: g, gauge: gauge, side: c.sides, made: map[string]*Node{}}
}

// matrix returns what arrays of a law on one side are multiplied by, [rank, rank] in float64.
func (t *regauge) matrix(side param.Side, law carry, rank int) *Node {
	key := fmt.Sprint(side, law, rank)
	if t.made[key] == nil {
		g, inverse := t.gauge(rank)
		factor := law == carryFactor || law == carryFactorSquares
		x := mat.DenseCopyOf(inverse.T())
		if factor == (side == param.SideA) {
			x = g
		}
		if law == carryGradientSquares || law == carryFactorSquares {
			x.MulElem(x, x)
		}
		t.made[key] = t.node(x)
	}
	return t.made[key]
}

func (t *regauge) node(x *mat.Dense) *Node {
	rows, cols := x.Dims()
	return ConstTensor(t.g, tensors.FromFlatDataAndDimensions(mat.DenseCopyOf(x).RawMatrix().Data, rows, cols))
}

// apply returns x, which belongs to v, in the other gauge, in float64 when v is a factor.
func (t *regauge) apply(v *mlmodel.Variable, x *Node, law carry) *Node {
	if t == nil || t.side[v] == "" {
		return x
	}
	return t.turn(x, t.side[v], law)
}

// turn multiplies the last axis of x by the law's matrix.
func (t *regauge) turn(x *Node, side param.Side, law carry) *Node {
	if law == carryKept {
		return x
	}
	return lastTimes(x, t.matrix(side, law, x.Shape().Dim(-1)))
}

// back returns the change x of v in the gauge of the store.
func (t *regauge) back(v *mlmodel.Variable, x *Node) *Node {
	if t == nil || t.side[v] == "" {
		return x
	}
	key := fmt.Sprint("back", t.side[v], x.Shape().Dim(-1))
	if t.made[key] == nil {
		g, inverse := t.gauge(x.Shape().Dim(-1))
		if t.side[v] == param.SideB {
			inverse = mat.DenseCopyOf(g.T())
		}
		t.made[key] = t.node(inverse)
	}
	return lastTimes(x, t.made[key])
}

// lastTimes returns x·y over the last axis of x, in float64.
func lastTimes(x, y *Node) *Node {
	dims := x.Shape().Dimensions
	flat := Reshape(as(dtypes.Float64, x), -1, dims[len(dims)-1])
	return Reshape(DotGeneral(flat, []int{1}, nil, y, []int{0}, nil), dims...)
}

// carry takes the state of a group to the other gauge; without a law it is that of a first step, in either gauge.
func (t *regauge) carry(s *Step, law func(slot string) carry) {
	for _, slot := range s.Group.to.rule.State(s.Group.Dims()) {
		v := s.variable(slot.Name)
		x := v.NodeValue(s.Rate.Graph())
		switch {
		case law == nil:
			v.SetNodeValue(ZerosLike(x))
		case t != nil:
			v.SetNodeValue(t.carried(s.Group, slot, x, law(slot.Name)))
		}
	}
}

// carried returns a state array in the other gauge.
func (t *regauge) carried(gr *Group, slot Slot, x *Node, law carry) *Node {
	switch gr.to.rule.Layout() {
	case Paired:
		return t.turn(x, []param.Side{param.SideA, param.SideB}[slot.Of], law)
	case Flat:
		var parts []*Node
		gr.unstack([]*Node{x}, func(v *mlmodel.Variable, part *Node) {
			part = as(dtypes.Float64, t.apply(v, part, law))
			parts = append(parts, Reshape(part, part.Shape().Size()))
		})
		return Concatenate(parts, 0)
	}
	return x
}
