"""A model on a GPU. Everything that touches CUDA happens in setup(), in the worker itself: a module that did it on import would be
refused as a preload."""

import os

import pitboss


class Model(pitboss.Adapter):
    def setup(self) -> None:
        self.device = os.environ["CUDA_VISIBLE_DEVICES"]
        # Here: self.model = torch.load("model.pt", map_location="cuda:0"). The only GPU that this process sees is its number 0.

    @pitboss.tool
    def where(self) -> dict:
        """The worker's index and the GPU that it has."""
        return {"index": pitboss.context().index, "device": self.device, "pid": os.getpid()}
