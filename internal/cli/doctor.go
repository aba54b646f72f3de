package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/backend/cpu"
	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

// doctorCommand is 'polar doctor'.
type doctorCommand struct {
	JSON bool `name:"json" help:"Print the report as JSON." group:"output"`
}

// Help is shown under the flags' summary.
func (*doctorCommand) Help() string {
	return `The peaks are measured, on all threads at once; other programs that run meanwhile lower them. POLAR_CPU=generic, avx2 or avx512
chooses lower instructions than the processor has.

Examples:

    polar doctor
    POLAR_CPU=avx2 polar doctor --json`
}

// diagnosis is what doctor prints; the sizes are bytes, zero where unknown, the peaks GFLOP/s.
type diagnosis struct {
	Processor     string   `json:"processor"`
	Features      []string `json:"features"`
	Cores         int      `json:"cores"`
	Logical       int      `json:"logical_processors"`
	L1            int64    `json:"l1_bytes"`
	L2            int64    `json:"l2_bytes"`
	L3            int64    `json:"l3_bytes"`
	Memory        int64    `json:"memory_bytes"`
	Available     int64    `json:"available_bytes"`
	Kernels       string   `json:"kernels"`
	BF16          bool     `json:"bfloat16_products"` // can be asked for
	BF16On        bool     `json:"bfloat16_products_on"`
	Threads       int      `json:"threads"`
	PeakFloat32   float64  `json:"peak_float32_gflops"`
	PeakBFloat16  float64  `json:"peak_bfloat16_gflops"`
	Backends      []string `json:"backends"`
	Default       string   `json:"default_backend"`
	DefaultReason string   `json:"default_reason"`
}

// Run opens the polar backend, as GOMLX_BACKEND configures it if that is the one it names, and describes it and the machine.
func (c *doctorCommand) Run(p *program) error {
	name := backend.Name("")
	if kind, _, _ := strings.Cut(name, ":"); kind != cpu.Name {
		name = cpu.Name
	}
	opened, err := backend.Open(name)
	if err != nil {
		return failf("", "%w", err)
	}
	defer opened.Finalize()
	d := diagnose(opened.(*cpu.Backend))
	if c.JSON {
		encoder := json.NewEncoder(p.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(d)
	}
	for _, row := range d.rows() {
		if _, err := fmt.Fprintf(p.stdout, "%-18s %s\n", row[0], row[1]); err != nil {
			return err
		}
	}
	return nil
}

func diagnose(b *cpu.Backend) diagnosis {
	m := cpu.Describe()
	d := diagnosis{
		Processor: m.Processor, Features: m.Features, Cores: m.Cores, Logical: m.Threads, L1: m.L1, L2: m.L2, L3: m.L3,
		Memory: m.Memory, Available: m.Available, Kernels: b.Level().String(), BF16: feature.BF16(b.Level()), BF16On: b.BF16(),
		Threads: b.Threads(), PeakFloat32: b.Peak(false), PeakBFloat16: b.Peak(true), Backends: compute.List(),
		Default: backend.Name(""), DefaultReason: "built in",
	}
	slices.Sort(d.Backends)
	if os.Getenv(backend.EnvVar) != "" {
		d.DefaultReason = "$" + backend.EnvVar
	}
	return d
}

// rows are the report's lines: what, and its value.
func (d diagnosis) rows() [][2]string {
	bf16 := map[bool]string{true: "yes", false: "no"}[d.BF16On]
	if d.BF16 && !d.BF16On {
		bf16 = "no (polar:bf16 switches them on)"
	}
	peak := func(gflops float64) string {
		if gflops == 0 {
			return "none"
		}
		return fmt.Sprintf("%.0f GFLOP/s", gflops)
	}
	return [][2]string{
		{"processor", known(d.Processor)},
		{"features", known(strings.Join(d.Features, " "))},
		{"cores", fmt.Sprintf("%d (%d logical processors)", d.Cores, d.Logical)},
		{"caches", fmt.Sprintf("L1 %s, L2 %s a core, L3 %s", ofMemory(d.L1), ofMemory(d.L2), ofMemory(d.L3))},
		{"memory", fmt.Sprintf("%s, %s available", ofMemory(d.Memory), ofMemory(d.Available))},
		{"kernels", d.Kernels},
		{"bfloat16 products", bf16},
		{"threads", fmt.Sprint(d.Threads)},
		{"float32 peak", peak(d.PeakFloat32)},
		{"bfloat16 peak", peak(d.PeakBFloat16)},
		{"backends", strings.Join(d.Backends, ", ")},
		{"default", fmt.Sprintf("%s (%s)", d.Default, d.DefaultReason)},
	}
}

func known(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

// ofMemory prints a size in the units in which caches and memory are sold.
func ofMemory(bytes int64) string {
	switch {
	case bytes == 0:
		return "unknown"
	case bytes >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	case bytes >= 1<<20:
		return fmt.Sprintf("%.4g MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.4g KiB", float64(bytes)/(1<<10))
}
