// Package run is one training run from its configuration to its artifacts: it joins model, data, adapter and optimizer,
// trains, evaluates, checkpoints, resumes, and exports an adapter or a model.
//
// Prepare reads everything a run needs and returns a Session with a Plan that can be shown before anything is trained;
// Session.Run trains. A run writes only inside its run folder. Its state after a step is a function of its configuration,
// its data and the step alone, so that a run killed at any moment and resumed gives the losses of an undisturbed one,
// bit for bit, on the same machine. What is exported are the weights of the lowest validation loss measured after training
// began, or with Config.Export "last" those of the last step; the checkpoints of both are kept. A Session belongs to one
// goroutine.
package run
