package peft

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polargo/polar/internal/safetensors"
)

// example returns two pairs of different rank and scale.
func example() *Adapter {
	fill := func(count int, from float32) []float32 {
		out := make([]float32, count)
		for i := range out {
			out[i] = from + float32(i)/8
		}
		return out
	}
	return &Adapter{Base: "some/base", Targets: []string{"q_proj", "up_proj"}, Pairs: []Pair{
		{Layer: "model.layers.0.mlp.up_proj", FanOut: 5, FanIn: 3, Rank: 2, Scale: 0.5, A: fill(10, 1), B: fill(6, -1)},
		{Layer: "model.layers.0.self_attn.q_proj", FanOut: 4, FanIn: 3, Rank: 1, Scale: 4, A: fill(4, 2), B: fill(3, 3)},
	}}
}

func save(t *testing.T, a *Adapter, extra map[string][]byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := Save(dir, a, extra); err != nil {
		t.Fatal(err)
	}
	return dir
}

// delta returns Scale·A Bᵀ by the definition.
func delta(p Pair) []float64 {
	out := make([]float64, p.FanOut*p.FanIn)
	for i := range p.FanOut {
		for j := range p.FanIn {
			for k := range p.Rank {
				out[i*p.FanIn+j] += p.Scale * float64(p.A[i*p.Rank+k]) * float64(p.B[j*p.Rank+k])
			}
		}
	}
	return out
}

func sameProducts(t *testing.T, got, want []Pair) {
	t.Helper()
	const tol = 1e-6 // each factor is rounded once to float32 when the scale is folded in
	if len(got) != len(want) {
		t.Fatalf("%d pairs, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].Layer != want[i].Layer {
			t.Fatalf("pair %d is %s, want %s", i, got[i].Layer, want[i].Layer)
		}
		w := delta(want[i])
		for k, value := range delta(got[i]) {
			if !(math.Abs(value-w[k]) <= tol*(1+math.Abs(w[k]))) {
				t.Fatalf("%s entry %d: %g, want %g", want[i].Layer, k, value, w[k])
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	dir := save(t, example(), map[string][]byte{"chat_template.jinja": []byte("{{x}}")})
	loaded, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	sameProducts(t, loaded.Pairs, example().Pairs)
	if loaded.Base != "some/base" || strings.Join(loaded.Targets, " ") != "q_proj up_proj" || loaded.FanInFanOut {
		t.Errorf("%+v", loaded)
	}
	if template, err := os.ReadFile(filepath.Join(dir, "chat_template.jinja")); err != nil || string(template) != "{{x}}" {
		t.Errorf("extra file: %q %v", template, err)
	}
	again := save(t, loaded, nil) // scales that are 1 stay so
	twice, err := Load(again)
	if err != nil {
		t.Fatal(err)
	}
	sameProducts(t, twice.Pairs, example().Pairs)
}

// TestFileFormat holds the two files to what PEFT documents: keys, shapes, orientation and configuration.
func TestFileFormat(t *testing.T) {
	dir := save(t, example(), nil)
	file, err := safetensors.Open(filepath.Join(dir, weightsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	loraA, shape, err := file.Float32("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight")
	if err != nil || len(shape) != 2 || shape[0] != 2 || shape[1] != 3 {
		t.Fatalf("lora_A %v %v", shape, err)
	}
	pair := example().Pairs[0]
	for k := range 2 {
		for j := range 3 {
			if want := math.Sqrt(0.5) * float64(pair.B[j*2+k]); math.Abs(float64(loraA[k*3+j])-want) > 1e-6 {
				t.Errorf("lora_A[%d, %d] = %g, want sqrt(s)·B[%d, %d] = %g", k, j, loraA[k*3+j], j, k, want)
			}
		}
	}
	if _, shape, err := file.Float32("base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"); err != nil || shape[0] != 5 || shape[1] != 2 {
		t.Errorf("lora_B %v %v", shape, err)
	}
	var fields map[string]any
	text, err := os.ReadFile(filepath.Join(dir, configFile))
	if err != nil || json.Unmarshal(text, &fields) != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2.0, "lora_alpha": 2.0, "use_rslora": false,
		"bias": "none", "fan_in_fan_out": false, "inference_mode": true, "lora_dropout": 0.0, "init_lora_weights": true, "base_model_name_or_path": "some/base"} {
		if fields[key] != want {
			t.Errorf("%s is %v, want %v", key, fields[key], want)
		}
	}
	for _, key := range []string{"rank_pattern", "alpha_pattern"} {
		if m := fields[key].(map[string]any); len(m) != 1 || m[`model\.layers\.0\.self_attn\.q_proj`] != 1.0 {
			t.Errorf("%s is %v", key, m)
		}
	}
}

func TestSaveRefuses(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "thesis.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, dir, want string
		change          func(*Adapter)
		extra           map[string][]byte
	}{
		{name: "other files", dir: full, want: "holds other files (thesis.txt)"},
		{name: "extra path", want: "plain name", extra: map[string][]byte{"../x": nil}},
		{name: "extra over its own", want: "plain name", extra: map[string][]byte{configFile: nil}},
		{name: "no layers", want: "no layers", change: func(a *Adapter) { a.Pairs = nil }},
		{name: "NaN", want: `layer "model.layers.0.mlp.up_proj": factor A (lora_B) holds NaN at [1, 1]`, change: func(a *Adapter) { a.Pairs[0].A[3] = float32(math.NaN()) }},
		{name: "infinite", want: "holds +Inf at [2, 0]", change: func(a *Adapter) { a.Pairs[1].B[2] = float32(math.Inf(1)) }},
		{name: "scale", want: "scale 0", change: func(a *Adapter) { a.Pairs[0].Scale = 0 }},
		{name: "length", want: "factor A has 9 values, want 5 x 2", change: func(a *Adapter) { a.Pairs[0].A = a.Pairs[0].A[:9] }},
		{name: "twice", want: "twice", change: func(a *Adapter) { a.Pairs[1] = a.Pairs[0] }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, dir := example(), c.dir
			if dir == "" {
				dir = filepath.Join(t.TempDir(), "out")
			}
			if c.change != nil {
				c.change(a)
			}
			err := Save(dir, a, c.extra)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %v, want one line with %q", err, c.want)
			}
			if c.dir == "" {
				if _, err := os.Stat(dir); err == nil {
					t.Error("left a folder")
				}
			}
		})
	}
	dir := save(t, example(), nil) // an adapter may be replaced
	if err := Save(dir, example(), nil); err != nil {
		t.Error(err)
	}
}

// foreign writes an adapter folder from its parts.
func foreign(t testing.TB, config string, tensors ...safetensors.Tensor) string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, configFile), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := safetensors.Write(filepath.Join(dir, weightsFile), tensors, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

func ones(name string, shape ...int) safetensors.Tensor {
	data := make([]float32, shape[0]*shape[1])
	for i := range data {
		data[i] = 1
	}
	return safetensors.FromFloat32(name, shape, data)
}

func both(layer string, m, n, r int) []safetensors.Tensor {
	return []safetensors.Tensor{ones(keyPrefix+layer+".lora_A.weight", r, n), ones(keyPrefix+layer+".lora_B.weight", m, r)}
}

// TestForeignScales reads configurations as PEFT writes them and checks s of each layer.
func TestForeignScales(t *testing.T) {
	const q, up = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"
	cases := []struct {
		name, config string
		rankQ        int
		scaleQ, up   float64
	}{
		{"plain", `{"peft_type":"LORA","r":4,"lora_alpha":8,"target_modules":["q_proj","up_proj"]}`, 4, 2, 2},
		{"defaults", `{"peft_type":"LORA","rank_pattern":{"q_proj":4,"up_proj":4}}`, 4, 2, 2},
		{"rslora", `{"peft_type":"LORA","r":4,"lora_alpha":8,"use_rslora":true,"target_modules":".*proj"}`, 4, 4, 4},
		{"alpha pattern", `{"peft_type":"LORA","r":4,"lora_alpha":8,"alpha_pattern":{"self_attn.q_proj":2},"target_modules":"all-linear"}`, 4, 0.5, 2},
		{"rank pattern", `{"peft_type":"LORA","r":4,"lora_alpha":8,"rank_pattern":{".*q_proj":1}}`, 1, 8, 2},
		{"both, rslora", `{"peft_type":"LORA","r":4,"lora_alpha":8,"use_rslora":true,"rank_pattern":{"q_proj":1},"alpha_pattern":{"^model.layers.0.self_attn.q_proj":3}}`, 1, 3, 4},
		{"the first match counts", `{"peft_type":"LORA","r":4,"lora_alpha":8,"alpha_pattern":{"q_proj":2,"model.layers.0.self_attn.q_proj":3,"z":1,"up_proj":4,".*":100,"q_proj":6}}`, 4, 1.5, 1},
		{"a suffix is not a part of a word", `{"peft_type":"LORA","r":4,"lora_alpha":8,"alpha_pattern":{"proj":1}}`, 4, 2, 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, err := Load(foreign(t, c.config, append(both(q, 6, 5, c.rankQ), both(up, 7, 5, 4)...)...))
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Pairs) != 2 || a.Pairs[1].Layer != q || a.Pairs[1].Rank != c.rankQ || a.Pairs[1].FanOut != 6 || a.Pairs[1].FanIn != 5 {
				t.Fatalf("%+v", a.Pairs)
			}
			if a.Pairs[1].Scale != c.scaleQ || a.Pairs[0].Scale != c.up {
				t.Errorf("scales %g and %g, want %g and %g", a.Pairs[1].Scale, a.Pairs[0].Scale, c.scaleQ, c.up)
			}
		})
	}
}

func TestMatches(t *testing.T) {
	const layer = "model.layers.3.self_attn.q_proj"
	for config, want := range map[string]bool{
		`"target_modules":["q_proj"]`:                                 true,
		`"target_modules":["proj"]`:                                   false,
		`"target_modules":["model.layers.3.self_attn.q_proj"]`:        true,
		`"target_modules":".*\\.(q|v)_proj"`:                          true,
		`"target_modules":"q_proj"`:                                   false, // one string is a whole expression
		`"target_modules":"all-linear"`:                               true,
		`"target_modules":["q_proj"],"exclude_modules":["q_proj"]`:    false,
		`"target_modules":["q_proj"],"exclude_modules":".*3.*"`:       false,
		`"target_modules":["q_proj"],"layers_to_transform":[1]`:       false,
		`"target_modules":".*(?<!x)q_proj"`:                           false, // not Go's; cannot be told
		`"target_modules":null`:                                       false,
		`"target_modules":["q_proj"],"layers_to_transform":null`:      true,
		`"target_modules":["v_proj"],"exclude_modules":null`:          false,
		`"target_modules":["q_proj"],"exclude_modules":["lm_head"]`:   true,
		`"target_modules":["layers.3.self_attn.q_proj","something"]`:  true,
		`"target_modules":["layers.13.self_attn.q_proj","something"]`: false,
	} {
		c, err := parseConfig([]byte(`{"peft_type":"LORA",` + config + `}`))
		if err != nil || c.matches(layer) != want {
			t.Errorf("%s: matches %v, want %v (%v)", config, !want, want, err)
		}
	}
}

func TestLoadRefusesConfig(t *testing.T) {
	cases := []struct{ name, config, want string }{
		{"no JSON", `{`, "not valid JSON"},
		{"no object", `[]`, "not valid JSON"},
		{"null", `null`, "want a JSON object"},
		{"another kind", `{"peft_type":"IA3"}`, `peft_type is "IA3"`},
		{"no kind", `{}`, `peft_type is ""`},
		{"DoRA", `{"peft_type":"LORA","use_dora":true}`, "uses DoRA"},
		{"modules_to_save", `{"peft_type":"LORA","modules_to_save":["lm_head"]}`, "modules_to_save"},
		{"bias", `{"peft_type":"LORA","bias":"all"}`, `bias is "all"`},
		{"lora_bias", `{"peft_type":"LORA","lora_bias":true}`, "lora_bias"},
		{"replication", `{"peft_type":"LORA","layer_replication":[[0,4]]}`, "layer_replication"},
		{"tokens", `{"peft_type":"LORA","trainable_token_indices":[1]}`, "trainable_token_indices"},
		{"moving start", `{"peft_type":"LORA","init_lora_weights":"pissa_niter_16"}`, `init_lora_weights is "pissa_niter_16"`},
		{"rank", `{"peft_type":"LORA","r":0}`, "r is 0"},
		{"rank type", `{"peft_type":"LORA","r":"8"}`, "r"},
		{"alpha", `{"peft_type":"LORA","lora_alpha":-1}`, "lora_alpha is -1"},
		{"rank pattern", `{"peft_type":"LORA","rank_pattern":{"q":0}}`, `rank_pattern gives "q" the value 0`},
		{"alpha pattern", `{"peft_type":"LORA","alpha_pattern":{"q":0}}`, `alpha_pattern gives "q" the value 0`},
		{"pattern", `{"peft_type":"LORA","alpha_pattern":{"(":1}}`, `alpha_pattern has the key "("`},
		{"rank pattern of a fraction", `{"peft_type":"LORA","rank_pattern":{"q":1.5}}`, `rank_pattern gives "q" the value 1.5`},
		{"pattern of words", `{"peft_type":"LORA","rank_pattern":{"q":"a"}}`, "want an object of numbers"},
		{"targets", `{"peft_type":"LORA","target_modules":{"a":1}}`, "want a string or a list of strings"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := foreign(t, c.config, both("a", 2, 2, 8)...)
			_, err := Load(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %v, want one line with the folder and %q", err, c.want)
			}
		})
	}
	if _, err := parseConfig([]byte(`{"peft_type":"LORA","use_dora":false,"modules_to_save":null,"layer_replication":[ ],"init_lora_weights":"gaussian","unheard_of":1}`)); err != nil {
		t.Errorf("fields that are off: %v", err)
	}
}

func TestLoadRefusesTensors(t *testing.T) {
	const config = `{"peft_type":"LORA","r":2}`
	a := "base_model.model.x.q_proj.lora_A.weight"
	b := "base_model.model.x.q_proj.lora_B.weight"
	nan := ones(b, 3, 2)
	copy(nan.Data, []byte{0, 0, 0xc0, 0x7f})
	cases := []struct {
		name    string
		tensors []safetensors.Tensor
		want    []string
	}{
		{"missing half", []safetensors.Tensor{ones(a, 2, 4)}, []string{"layer x.q_proj has no lora_B"}},
		{"wrong rank", []safetensors.Tensor{ones(a, 3, 4), ones(b, 3, 2)}, []string{"layer x.q_proj: lora_A [3 4] and lora_B [3 2], want [2, fan-in] and [fan-out, 2]"}},
		{"unexpected", append(both("x", 2, 2, 2), ones("base_model.model.x.lora_magnitude_vector", 2, 1)), []string{`unexpected tensor "base_model.model.x.lora_magnitude_vector" [2 1]`}},
		{"everything at once", []safetensors.Tensor{ones(a, 2, 4), ones("lm_head.weight", 1, 1), ones("z.lora_A.weight", 5, 1), ones("z.lora_B.weight", 1, 5)},
			[]string{"x.q_proj has no lora_B", `unexpected tensor "lm_head.weight" [1 1]`, "layer z: lora_A [5 1] and lora_B [1 5], want"}},
		{"twice", append(both("x", 2, 2, 2), ones("x.lora_A.default.weight", 2, 2)), []string{"are the same factor"}},
		{"NaN", []safetensors.Tensor{ones(a, 2, 4), nan}, []string{`layer "x.q_proj": factor A (lora_B) holds NaN at [0, 0]`}},
		{"none", nil, []string{"no layers"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(foreign(t, config, c.tensors...))
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("error %v, want one line with %q", err, want)
				}
			}
		})
	}
	dir := foreign(t, config)
	_ = os.Remove(filepath.Join(dir, weightsFile))
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "no adapter_model.safetensors") {
		t.Error(err)
	}
	_ = os.WriteFile(filepath.Join(dir, "adapter_model.bin"), nil, 0o644)
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "pickle") {
		t.Error(err)
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "adapter_config.json: no such file") {
		t.Error(err)
	}
}

// FuzzConfig holds that no configuration makes the parser or what reads it panic, that what it accepts has usable
// scales, and that errors are one line.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"peft_type":"LORA","r":4,"lora_alpha":8,"use_rslora":true,"rank_pattern":{".*q":1},"target_modules":["q"],"bias":"none"}`))
	f.Add([]byte(`{"peft_type":"LORA","target_modules":"(","exclude_modules":".*","alpha_pattern":{"x":1e308}}`))
	f.Add([]byte(`{"peft_type":"LORA","init_lora_weights":"loftq"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("more than one line: %q", err)
			}
			return
		}
		for _, layer := range []string{"", "model.layers.0.q", "x"} {
			c.matches(layer)
			if s := c.scale(layer); !(s > 0) || float32(s) == 0 {
				t.Fatalf("scale %g of %q", s, layer)
			}
		}
	})
}
