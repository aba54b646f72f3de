package polar

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers is the map of the project's packages: each may import those of lower levels and never a sibling. Leaves under
// internal are open to all.
var layers = map[string]int{
	"cmd/polar":    100,
	"examples":     90, // and every package under it
	"bench":        90, // and every package under it
	"internal/cli": 90,
	"recipe":       80,
	"run":          70,
	"model/hf":     61, // joins a model and its tokenizer
	"model":        60,
	"data":         60,
	"adapter":      60,
	"adapter/peft": 50,
	"tokenizer":    50,
	"optimizer":    40,
	"manifold":     30,
	"matfn":        20,
	"param":        10,
	"backend":      5,

	"backend/cpu":                  4,
	"backend/cpu/compile":          3,
	"backend/cpu/program":          2,
	"backend/cpu/ir":               1,
	"backend/cpu/kernel/attention": 0,
	"backend/cpu/kernel/gemm":      0,
	"backend/cpu/kernel/vector":    0,
	"backend/cpu/team":             -1,
	"backend/cpu/kernel/feature":   -1,
}

// leaves may be imported from anywhere and import none of the layers but backend.
var leaves = []string{
	"internal/atomicfile", "internal/batched", "internal/check", "internal/graphx", "internal/nearest", "internal/npy", "internal/oracle",
	"internal/safetensors", "internal/vjp",
}

const module = "github.com/polargo/polar/"

// TestImportsPointDownward holds the map in ARCHITECTURE.md against what the compiler sees.
func TestImportsPointDownward(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		if p.ImportPath+"/" == module {
			continue // this test's own package
		}
		seen++
		for _, problem := range checkImports(name, p.Imports) {
			t.Error(problem)
		}
	}
	if seen < len(layers) {
		t.Errorf("saw %d packages, fewer than the map has (%d)", seen, len(layers))
	}
}

func checkImports(name string, imports []string) (problems []string) {
	level, known := levelOf(name)
	if !known {
		return []string{name + ": not in the map of layers; add it to imports_test.go and ARCHITECTURE.md"}
	}
	for _, path := range imports {
		imported, ours := strings.CutPrefix(path, module)
		if !ours || slices.Contains(leaves, imported) {
			continue
		}
		other, known := levelOf(imported)
		switch {
		case slices.Contains(leaves, name) && imported != "backend":
			problems = append(problems, name+" is a leaf but imports "+imported)
		case !known || other >= level:
			problems = append(problems, name+" imports "+imported+", which is not below it")
		}
	}
	return problems
}

func levelOf(name string) (int, bool) {
	if slices.Contains(leaves, name) {
		return 6, true
	}
	if top, _, below := strings.Cut(name, "/"); below && (top == "examples" || top == "bench") {
		name = top
	}
	level, known := layers[name]
	return level, known
}

// TestImportRulesBite proves that the rules can fail.
func TestImportRulesBite(t *testing.T) {
	for name, imports := range map[string][]string{
		"model":                {module + "adapter"},   // siblings
		"param":                {module + "optimizer"}, // upward
		"internal/safetensors": {module + "model"},     // a leaf reaching up
		"somewhere/new":        {},                     // not in the map
	} {
		if len(checkImports(name, imports)) == 0 {
			t.Errorf("%s importing %v was accepted", name, imports)
		}
	}
	if problems := checkImports("run", []string{module + "model", module + "internal/graphx", "fmt"}); len(problems) > 0 {
		t.Error(problems)
	}
}
