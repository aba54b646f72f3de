package adapter

import (
	"encoding/binary"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/adapter/peft"
	"github.com/polargo/polar/internal/safetensors"
	"github.com/polargo/polar/param"
)

// golden are small Hugging Face models; GPT-2's linear weights are stored fan-in x fan-out.
const golden = "../testdata/golden"

// readTensors returns the float32 tensors of a file with its linear layers' weights turned fan-out x fan-in.
func readTensors(t *testing.T, path string, conv1D bool) map[string]safetensors.Tensor {
	t.Helper()
	file, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	out := make(map[string]safetensors.Tensor)
	for _, name := range file.Names() {
		data, shape, err := file.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		if conv1D && isLinear(name, shape) {
			data, shape = transposed(data, shape)
		}
		out[name] = safetensors.FromFloat32(name, shape, data)
	}
	return out
}

func isLinear(name string, shape []int) bool {
	return len(shape) == 2 && (strings.Contains(name, ".attn.") || strings.Contains(name, ".mlp.") || strings.Contains(name, ".self_attn."))
}

func transposed(data []float32, shape []int) ([]float32, []int) {
	out := make([]float32, len(data))
	for i := range shape[0] {
		for j := range shape[1] {
			out[j*shape[0]+i] = data[i*shape[1]+j]
		}
	}
	return out, []int{shape[1], shape[0]}
}

// goldenModel returns a base's linear layers, in order of name, and a store with their weights.
func goldenModel(t *testing.T, base string) ([]param.Layer, *mlmodel.Store) {
	t.Helper()
	conv1D := base == "gpt2"
	file := readTensors(t, filepath.Join(golden, base, "model.safetensors"), conv1D)
	store := mlmodel.NewStore()
	var layers []param.Layer
	for _, name := range sortedNames(file) {
		tensor := file[name]
		if !isLinear(name, tensor.Shape) {
			continue
		}
		layer := param.Layer{Name: strings.TrimSuffix(name, ".weight"), FanOut: tensor.Shape[0], FanIn: tensor.Shape[1], Weight: param.Path(name), Conv1D: conv1D}
		layers = append(layers, layer)
		store.VariableWithValue(layer.Weight, tensors.FromFlatDataAndDimensions(floats(tensor), tensor.Shape...))
	}
	return layers, store
}

// TestAdaptersMadeByPEFT merges adapters that PEFT trained and saved, and compares with the weights PEFT's own merging
// gave: rsLoRA with rank and alpha patterns, a regular expression, all-linear, and GPT-2's transposed layers.
func TestAdaptersMadeByPEFT(t *testing.T) {
	const tol = 4 * eps32 // the product in float32 there, in float64 here
	for name, base := range map[string]string{"llama-rslora": "llama", "llama-regex": "llama", "llama-all": "llama", "gpt2": "gpt2"} {
		t.Run(name, func(t *testing.T) {
			layers, store := goldenModel(t, base)
			before := weightsOf(t, store, layers)
			a, err := peft.Load(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			s, err := FromPEFT(store, layers, a)
			if err != nil {
				t.Fatal(err)
			}
			if a.Base != "testdata/golden/"+base || a.FanInFanOut != (base == "gpt2") {
				t.Errorf("base %q, fan_in_fan_out %v", a.Base, a.FanInFanOut)
			}
			if err := s.Merge(); err != nil {
				t.Fatal(err)
			}
			want := readTensors(t, filepath.Join("testdata", name, "merged.safetensors"), base == "gpt2")
			after := weightsOf(t, store, layers)
			adapted := 0
			for _, layer := range layers {
				merged, ok := want[layer.Name+".weight"]
				if !ok {
					if distance(after[layer.Name], before[layer.Name]) != 0 {
						t.Errorf("%s was changed", layer.Name)
					}
					continue
				}
				adapted++
				closeTo(t, layer.Name, after[layer.Name], floats(merged), tol)
				if distance(before[layer.Name], floats(merged)) < 1e-3 {
					t.Errorf("%s: the comparison cannot fail", layer.Name)
				}
			}
			if adapted != len(want) || adapted != len(s.pairs) {
				t.Errorf("%d layers compared, %d in the file, %d pairs", adapted, len(want), len(s.pairs))
			}
		})
	}
}

// TestLoadedByPEFT trains an adapter of every start on small Llama and GPT-2 models and asks PEFT for its logits, by
// bench/peft_check.py. It needs POLAR_PYTHON, a Python with torch, transformers and peft.
func TestLoadedByPEFT(t *testing.T) {
	python := os.Getenv("POLAR_PYTHON")
	if python == "" {
		t.Skip("set POLAR_PYTHON to a Python that has torch, transformers and peft")
	}
	for _, base := range []string{"llama", "gpt2"} {
		for _, init := range Inits() {
			t.Run(base+"/"+init, func(t *testing.T) {
				layers, store := goldenModel(t, base)
				cfg := Config{Rank: 4, Alpha: 10, RSLoRA: init == InitPiSSA, Init: init, Seed: 1}
				if init == InitBalanced {
					cfg.Targets = []string{"/.*1.*(attn|mlp).*/"}
				}
				s, err := New(store, layers, cfg, Options{Gradients: randomGradients(layers)})
				if err != nil {
					t.Fatal(err)
				}
				train(t, s, 0.05, 2)
				adapterDir, mergedDir := filepath.Join(t.TempDir(), "adapter"), t.TempDir()
				a, err := s.Adapter(base)
				if err != nil {
					t.Fatal(err)
				}
				if err := peft.Save(adapterDir, a, nil); err != nil {
					t.Fatal(err)
				}
				if err := s.Merge(); err != nil {
					t.Fatal(err)
				}
				writeMerged(t, mergedDir, base, layers, store)
				out, err := exec.Command(python, "../bench/peft_check.py", "--base", filepath.Join(golden, base), "--adapter", adapterDir, "--merged", mergedDir).CombinedOutput()
				t.Logf("%s", lastLine(string(out)))
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			})
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// writeMerged writes the base's folder with the store's weights in place of its own.
func writeMerged(t *testing.T, dir, base string, layers []param.Layer, store *mlmodel.Store) {
	t.Helper()
	file := readTensors(t, filepath.Join(golden, base, "model.safetensors"), false)
	merged := weightsOf(t, store, layers)
	for _, layer := range layers {
		data, shape := merged[layer.Name], []int{layer.FanOut, layer.FanIn}
		if layer.Conv1D {
			data, shape = transposed(data, shape)
		}
		file[layer.Name+".weight"] = safetensors.FromFloat32(layer.Name+".weight", shape, data)
	}
	var all []safetensors.Tensor
	for _, name := range sortedNames(file) {
		all = append(all, file[name])
	}
	if err := safetensors.Write(filepath.Join(dir, "model.safetensors"), all, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(golden, base, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644); err != nil {
		t.Fatal(err)
	}
}

func sortedNames(file map[string]safetensors.Tensor) []string {
	return slices.Sorted(maps.Keys(file))
}

// floats decodes an F32 tensor.
func floats(tensor safetensors.Tensor) []float32 {
	out := make([]float32, len(tensor.Data)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(tensor.Data[4*i:]))
	}
	return out
}
