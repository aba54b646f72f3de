package backend

import (
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
)

func TestName(t *testing.T) {
	const own = "go:ops_sequential,dependency_order"
	for _, c := range []struct{ name, env, want string }{
		{"", "", Default},
		{"go", "", Portable},
		{"go:ops_sequential", "", Portable},
		{own, "", own},
		{"", own, own},
		{"", "go", Portable},
		{"xla:cpu", own, "xla:cpu"}, // the flag wins
	} {
		t.Setenv(EnvVar, c.env)
		if got := Name(c.name); got != c.want {
			t.Errorf("Name(%q) with $%s %q is %q, want %q", c.name, EnvVar, c.env, got, c.want)
		}
	}
}

// TestOpenRefuses: an unknown kind, an unknown setting, and the settings of the Go backend that hang, with what to do.
func TestOpenRefuses(t *testing.T) {
	for name, want := range map[string]string{
		"cuda":                       `unknown backend "cuda": this program has go`,
		"go:parallelism=2":           Portable,
		"go:ops_parallel":            Portable,
		"go:creation_order":          Portable,
		"go:ops_sequential,nonsense": "nonsense",
	} {
		opened, err := Open(name)
		if err == nil {
			opened.Finalize()
			t.Errorf("%s was opened", name)
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want one line with %q", name, err, want)
		}
	}
}

// TestOpenComputes: the default, the portable backend and that in its own order give the same numbers.
func TestOpenComputes(t *testing.T) {
	t.Setenv(EnvVar, "")
	for _, name := range []string{"", "go", "go:ops_sequential,dependency_order"} {
		opened, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		exec, err := graph.NewExec(opened, func(x *graph.Node) *graph.Node { return graph.ReduceAllSum(graph.Square(x)) })
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Call1([]float32{1, 2, 3})
		if err != nil {
			t.Fatal(err)
		}
		if got := out.Value(); got != float32(14) {
			t.Errorf("%q computes %v, want 14", name, got)
		}
		opened.Finalize()
	}
}
