package param

import (
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
)

func variable(store *mlmodel.Store, path string, dims ...int) *mlmodel.Variable {
	return store.VariableWithValue(path, tensors.FromScalarAndDimensions(float32(0), dims...))
}

func TestTagAndLookup(t *testing.T) {
	store := mlmodel.NewStore()
	v := variable(store, "/net/q/A", 6, 2)
	want := Spec{Role: Pair, FanOut: 6, FanIn: 4, Layer: "net.q", Side: SideA, Scale: 0.5}
	if err := Tag(store, v, want); err != nil {
		t.Fatal(err)
	}
	got, found, err := Lookup(store, v)
	if err != nil || !found || got != want {
		t.Fatalf("got %+v, %v, %v; want %+v", got, found, err, want)
	}
	if got.S() != 0.5 || (Spec{}).S() != 1 {
		t.Fatal("scale")
	}
}

// TestLookupIgnoresParentScopes guards against the store's search of parent scopes, which would hand a variable the
// description of one of the same name further up.
func TestLookupIgnoresParentScopes(t *testing.T) {
	store := mlmodel.NewStore()
	if err := Tag(store, variable(store, "/net/weight", 3, 2), Spec{Role: Hidden, FanOut: 3, FanIn: 2}); err != nil {
		t.Fatal(err)
	}
	if spec, found, err := Lookup(store, variable(store, "/net/layer/weight", 3, 2)); found || err != nil {
		t.Fatalf("an untagged variable was described as %+v (%v)", spec, err)
	}
}

func TestTagRefuses(t *testing.T) {
	store := mlmodel.NewStore()
	v := variable(store, "/w", 6, 4)
	cases := map[string]Spec{
		"role hidden wants shape [4 6]": {Role: Hidden, FanOut: 4, FanIn: 6},
		"role pair wants a layer name":  {Role: Pair, FanOut: 6, FanIn: 4, Side: SideA},
		"role pair wants side A or B":   {Role: Pair, FanOut: 6, FanIn: 4, Layer: "l"},
		"role pair wants shape [5 0]":   {Role: Pair, FanOut: 6, FanIn: 5, Layer: "l", Side: SideB},
		"unknown role":                  {Role: "hiden"},
	}
	for want, spec := range cases {
		if err := Tag(store, v, spec); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "/w") {
			t.Errorf("%+v: error %v, want %q", spec, err, want)
		}
	}
	if err := Tag(store, v, Spec{Role: Hidden, FanOut: 4, FanIn: 6, Transposed: true}); err != nil {
		t.Error(err)
	}
}

func TestPath(t *testing.T) {
	if got := Path("model.layers.0.mlp.up_proj.weight"); got != "/model/layers/0/mlp/up_proj/weight" {
		t.Fatal(got)
	}
}
