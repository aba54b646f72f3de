package run

import "github.com/polargo/polar/optimizer"

// Config decides a run. Every field is a command-line flag and a key of the configuration file: the flag of LearningRate
// is --learning-rate and its key learning_rate. Zero values of Steps, LearningRate, Alpha and the like mean "choose for
// me"; Prepare replaces them, and the resolved configuration is written into the run folder.
type Config struct {
	// What is trained on what.
	Model              string  `help:"Base model: a Hugging Face folder, a .gguf file, or a model name on the hub." placeholder:"PATH" group:"model"`
	Revision           string  `help:"Revision of a hub model (branch, tag or commit)." default:"main" group:"model"`
	Data               string  `help:"Training data: .txt, .jsonl (text, prompt/completion or messages), .parquet, a folder or glob of them, or 'shakespeare'." placeholder:"PATH" group:"data"`
	ValidationData     string  `help:"Validation data; without it a part of the training data is held out." placeholder:"PATH" group:"data"`
	ValidationFraction float64 `help:"Fraction of the data held out for validation." default:"0.1" group:"data"`
	Length             int     `help:"Tokens in a row; 0 chooses 256 or the model's maximum, whichever is smaller." default:"0" group:"data"`
	Packing            bool    `help:"Pack several short examples into a row, each attending only to itself." default:"true" negatable:"" group:"data"`
	TrainOnPrompt      bool    `help:"Train on prompts too, not on completions only." group:"data"`
	Sampling           string  `help:"How rows are drawn: epochs (each once, in seeded order) or windows (random offsets of plain text)." enum:"epochs,windows" default:"epochs" group:"data"`

	// The adapter.
	Rank      int      `help:"Rank of the adapter; 0 trains all weights." default:"16" group:"adapter"`
	Alpha     float64  `help:"Scale numerator: s = alpha/rank (alpha/sqrt(rank) with --rslora); 0 chooses the rank, so that s = 1." default:"0" group:"adapter"`
	RSLoRA    bool     `name:"rslora" help:"Use s = alpha/sqrt(rank)." group:"adapter"`
	Init      string   `help:"Start of the factors: lora (B zero), balanced, pissa or gradient; docs/initialisation.md compares them." enum:"balanced,pissa,gradient,lora" default:"lora" group:"adapter"`
	InitScale float64  `help:"balanced, gradient: RMS-to-RMS norm of the start's product s·A0·B0ᵀ; the smaller, the faster the pairs turn to new directions. 0 chooses." default:"0" group:"adapter"`
	Targets   []string `help:"Linear layers to adapt: names, suffixes, globs or /regular expressions/." default:"all-linear" group:"adapter"`

	// The optimizer.
	Optimizer            string  `help:"The optimizer; 'polar optimizers' describes them." default:"lora-muon" group:"optimizer"`
	LearningRate         float64 `help:"Learning rate; 0 chooses the optimizer's usual one. For the muon family it is the RMS-to-RMS norm of a step on a weight." aliases:"lr" default:"0" group:"optimizer"`
	WeightDecay          float64 `help:"Decoupled weight decay." default:"0.01" group:"optimizer"`
	Momentum             float64 `help:"Momentum (beta, AdamW's beta1); -1 chooses the optimizer's usual one, mostly 0.9." default:"-1" group:"optimizer"`
	Beta2                float64 `help:"Second-moment average; -1 chooses the optimizer's usual one." default:"-1" group:"optimizer"`
	Nesterov             bool    `help:"Nesterov momentum." group:"optimizer"`
	WidthScale           string  `help:"Scale of a muon step by the layer's shape: rms, none, jordan or moonlight." enum:"rms,none,jordan,moonlight" default:"rms" group:"optimizer"`
	Guard                bool    `help:"Bound the second-order term of a lora-muon or lora-rite step when a factor is tiny." default:"true" negatable:"" group:"optimizer"`
	RebalanceEvery       int     `help:"Rebalance the factors' scalar gauge every N steps; 0 never does." default:"0" group:"optimizer"`
	LoRAPlusRatio        float64 `name:"lora-plus-ratio" help:"AdamW: rate of PEFT's lora_B as a multiple of lora_A's (LoRA+)." default:"1" group:"optimizer"`
	MaxPreconditioned    int     `help:"Longest side of a matrix for which a preconditioner is kept when it has a shorter side; 0 is no limit, -1 chooses the usual one." default:"-1" group:"optimizer"`
	ClipNorm             float64 `help:"Clip the gradient's global norm; 0 does not." default:"0" group:"optimizer"`
	Schedule             string  `help:"Learning-rate schedule: constant, linear, cosine or wsd (warmup-stable-decay)." enum:"constant,linear,cosine,wsd" default:"linear" group:"optimizer"`
	WarmupSteps          int     `help:"Steps of linear warm-up." default:"0" group:"optimizer"`
	WarmupFraction       float64 `help:"Warm-up as a fraction of the steps, when --warmup-steps is 0." default:"0" group:"optimizer"`
	DecayFraction        float64 `help:"wsd: final fraction of the steps that decays." default:"0.4" group:"optimizer"`
	FallbackLearningRate float64 `help:"AdamW rate of embeddings, heads and vectors when they train; 0 chooses (with adamw and sgd on a model: the learning rate)." default:"0" group:"optimizer"`

	Protect []string `help:"Earlier adapters (PEFT folders, the flag once for each): what the weights do between their directions stays as it is." sep:"none" placeholder:"ADAPTER" group:"optimizer"`

	Manifold optimizer.Manifold `help:"Keep hidden matrices in a set, as 'set=ball,radius=4': sets psd, spectrahedron (lo, hi), ball (radius), band (lo, hi), stiefel, in units of the width scale; norm spectral or frobenius; solver oracle, alternating, pdhg or dual; steps; params (names or globs; last)." placeholder:"SETTINGS" group:"optimizer"`

	SpectralBudget      float64 `help:"Keep the spectral norm of s·A·Bᵀ, what a low-rank pair adds to its weight, at or below this after every step; 0 does not." default:"0" group:"optimizer"`
	SpectralBudgetMode  string  `help:"How: hardcap brings singular values above the budget back to it, clipped-decay takes a share of their excess away in a step." enum:"hardcap,clipped-decay" default:"hardcap" group:"optimizer"`
	SpectralBudgetDecay float64 `help:"That share, in (0, 1]." default:"0.1" group:"optimizer"`
	CertifyInvariance   bool    `help:"Check at five steps that the step on A·Bᵀ is the same when a pair is re-gauged (A·G, B·G⁻ᵀ), print the drift of each layer and keep it with the adapter. No weight changes; a check takes as long as about ten steps of the optimizer." group:"optimizer"`

	// The loop.
	Steps        int     `help:"Optimizer steps; 0 takes --epochs." default:"0" group:"loop"`
	Epochs       float64 `help:"Passes over the training data when --steps is 0." default:"1" group:"loop"`
	Batch        int     `help:"Rows a step." default:"4" group:"loop"`
	Accumulate   int     `help:"Micro-batches a step's rows are split into, to save memory; the update does not change." default:"1" group:"loop"`
	EvalEvery    int     `help:"Evaluate every N steps; 0 chooses a tenth of the steps." default:"0" group:"loop"`
	EvalBatches  int     `help:"Most batches (of --batch rows) of an evaluation; 0 takes all of the validation data." default:"0" group:"loop"`
	SaveEvery    int     `help:"Checkpoint every N steps; 0 chooses the evaluation's interval." default:"0" group:"loop"`
	SampleEvery  int     `help:"Print sample text every N steps; 0 only at the end." default:"0" group:"loop"`
	SamplePrompt string  `help:"Prompt of the sample text; empty takes one from the validation data." group:"loop"`
	SampleTokens int     `help:"Tokens of sample text." default:"60" group:"loop"`
	Patience     int     `help:"Stop after this many evaluations without a better loss; 0 never." default:"0" group:"loop"`
	Export       string  `help:"Weights that are exported: best (of the lowest validation loss after training began; last without validation data) or last." enum:"best,last" default:"best" group:"loop"`
	Seed         int64   `help:"Seed of data order and initialisation." default:"0" group:"loop"`

	// Where and how it runs.
	Out                     string `help:"Run folder; empty chooses runs/NAME-DATE." short:"o" placeholder:"DIR" group:"run"`
	Resume                  bool   `help:"Continue the run in --out from its newest readable checkpoint." group:"run"`
	Verify                  int    `help:"With --resume: replay at least this many steps, from an older checkpoint to the newest, and compare hashes of weights, optimizer state and data order." placeholder:"STEPS" default:"0" group:"run"`
	ActivationCheckpointing bool   `help:"Recompute activations in the backward pass: less memory, more time." group:"run"`
	Backend                 string `help:"Compute backend; empty takes $GOMLX_BACKEND or polar." group:"run"`
	Offline                 bool   `help:"Never use the network." group:"run"`

	// Lab describes a small model trained from scratch in place of Model; set by 'polar train', not by a flag of finetune.
	Lab *Lab `kong:"-" json:",omitempty"`
}

// Lab is the small transformer of the experiments, trained from scratch on characters.
type Lab struct {
	Layers     int     `help:"Blocks." default:"2" group:"lab"`
	Hidden     int     `help:"Width." default:"128" group:"lab"`
	Heads      int     `help:"Attention heads." default:"4" group:"lab"`
	Activation string  `help:"MLP activation: relu2 or gelu." enum:"relu2,gelu" default:"relu2" group:"lab"`
	Positions  string  `help:"Positions: rotary or learned." enum:"rotary,learned" default:"rotary" group:"lab"`
	QKNorm     bool    `name:"qk-norm" help:"RMS norm on queries and keys." default:"true" negatable:"" group:"lab"`
	PairRank   int     `help:"Parametrise each hidden weight as a pair of this rank; 0 trains dense weights." default:"0" group:"lab"`
	PairScale  float64 `help:"Rescale the pair's factors, A by c and B by 1/c (an invariance test)." default:"1" group:"lab"`
}
