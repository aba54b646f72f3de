package param

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gomlx/gomlx/core/graph"
	mlmodel "github.com/gomlx/gomlx/ml/model"
)

// Role is what a trainable variable is for.
type Role string

// The roles. A variable whose role is not known is refused by the optimizers, never guessed.
const (
	Hidden    Role = "hidden"    // a dense weight matrix between hidden activations
	Pair      Role = "pair"      // one factor of a low-rank pair A Bᵀ
	Embedding Role = "embedding" // a table indexed by token or position
	Head      Role = "head"      // the output projection onto the vocabulary
	Vector    Role = "vector"    // biases, gains and other vectors or scalars
)

// Side is the factor of a pair that a variable is.
type Side string

// The sides of the pair W = A Bᵀ: A is fan-out x rank, B is fan-in x rank.
const (
	SideA Side = "A"
	SideB Side = "B"
)

// Spec describes a trainable variable. W is fan-out x fan-in and acts as y = W x.
type Spec struct {
	Role Role `json:"role"`
	// FanOut and FanIn are the dimensions m and n of the weight W, also for the factors of a pair.
	FanOut int `json:"fan_out,omitempty"`
	FanIn  int `json:"fan_in,omitempty"`
	// Transposed is set for a Hidden variable stored fan-in x fan-out, as GoMLX's own dense layers are.
	Transposed bool `json:"transposed,omitempty"`
	// Layer names the pair; its two factors share it, and nothing else does.
	Layer string `json:"layer,omitempty"`
	Side  Side   `json:"side,omitempty"`
	// Scale is s in W_pre + s·A Bᵀ; zero means 1.
	Scale float64 `json:"scale,omitempty"`
}

// S returns the pair's scale s, 1 when it was not set.
func (s Spec) S() float64 {
	if s.Scale == 0 {
		return 1
	}
	return s.Scale
}

// Check returns an error when the description cannot fit a variable of the given dimensions.
func (s Spec) Check(dims []int) error {
	matrix := func(rows, cols int) error {
		if len(dims) != 2 || dims[0] != rows || (cols > 0 && dims[1] != cols) {
			return fmt.Errorf("role %s wants shape [%d %d], got %v", s.Role, rows, cols, dims)
		}
		return nil
	}
	switch s.Role {
	case Hidden:
		if s.Transposed {
			return matrix(s.FanIn, s.FanOut)
		}
		return matrix(s.FanOut, s.FanIn)
	case Pair:
		if s.Layer == "" {
			return fmt.Errorf("role pair wants a layer name")
		}
		switch s.Side {
		case SideA:
			return matrix(s.FanOut, 0)
		case SideB:
			return matrix(s.FanIn, 0)
		}
		return fmt.Errorf("role pair wants side A or B, got %q", s.Side)
	case Embedding, Head:
		if len(dims) != 2 {
			return fmt.Errorf("role %s wants a matrix, got shape %v", s.Role, dims)
		}
		return nil
	case Vector:
		return nil
	}
	return fmt.Errorf("unknown role %q; known: hidden, pair, embedding, head, vector", s.Role)
}

// stored is a description with the path it belongs to: the store looks a hyperparameter up in the parent scopes too, so
// that another variable's description could be found under this one's key.
type stored struct {
	Path string `json:"path"`
	Spec
}

func key(v *mlmodel.Variable) string { return "/polar_param" + v.Path() }

// Tag stores the description of v in its store. It returns an error when the description does not fit v's shape.
func Tag(store mlmodel.StoreProvider, v *mlmodel.Variable, spec Spec) error {
	if err := spec.Check(v.Shape().Dimensions); err != nil {
		return fmt.Errorf("tag variable %s: %w", v.Path(), err)
	}
	text, err := json.Marshal(stored{Path: v.Path(), Spec: spec})
	if err != nil {
		return fmt.Errorf("tag variable %s: %w", v.Path(), err)
	}
	store.Store().SetParam(key(v), string(text))
	return nil
}

// Lookup returns the description of v; found is false for a variable that was never tagged.
func Lookup(store mlmodel.StoreProvider, v *mlmodel.Variable) (spec Spec, found bool, err error) {
	value, ok := store.Store().GetParam(key(v))
	if !ok {
		return Spec{}, false, nil
	}
	text, ok := value.(string)
	if !ok {
		return Spec{}, false, fmt.Errorf("description of variable %s is a %T, want a string", v.Path(), value)
	}
	var s stored
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return Spec{}, false, fmt.Errorf("description of variable %s: %w", v.Path(), err)
	}
	return s.Spec, s.Path == v.Path(), nil
}

// Layer is the plain description of one linear layer of a network: y = W x with W fan-out x fan-in.
type Layer struct {
	// Name is the module's name in the checkpoint, for example "model.layers.0.self_attn.q_proj".
	Name          string
	FanOut, FanIn int
	// Weight is the path in the store of the frozen or trained weight, stored fan-out x fan-in.
	Weight string
	// Conv1D is set where the checkpoint stores the weight fan-in x fan-out (GPT-2); the store never does.
	Conv1D bool
}

// Linear builds y = x Wᵀ for a layer: x [..., fan-in] -> [..., fan-out], the layer's bias not included. A model takes
// its linear layers as such a function, so that adapters can supply theirs. It panics like all graph building.
type Linear func(x *graph.Node, layer Layer) *graph.Node

// Path returns the store path of a checkpoint's tensor: "a.b.weight" is "/a/b/weight".
func Path(name string) string { return "/" + strings.ReplaceAll(name, ".", "/") }
