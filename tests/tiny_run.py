"""A config for tests that start real processes: the debug autoencoder without evaluators."""

from configs import vae


def get_config(arg=None):
    config = vae.get_config("debug")
    with config.unlocked():
        config.evaluators = {}
        config.tensorboard = False
    config.training.update(
        num_steps=int(arg or 60), batch_size=8, log_every=1, eval_every=0, checkpoint_every=3
    )
    # The learning rate of a step must not depend on the number of steps.
    config.optimizer.model.schedule = "constant"
    config.data.update(source="", cache=True, num_threads=1)
    return config.lock()
