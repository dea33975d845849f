"""Train a convolutional network on a GPU: LeNet on MNIST, or three convolutions on CIFAR-10.

    python examples/train_gpu.py mnist-lenet
    python examples/train_gpu.py cifar10-cnn --epochs 10 --batch-size 200
    python examples/train_gpu.py mnist-lenet --backend numba     # the same on the CPU

The data sets lie in the folder that FASTNN_DATA names; `fastnn data get mnist` downloads one.
"""

import argparse

import fastnn
from fastnn import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential, Sigmoid, data, losses, optim
from fastnn.training import Trainer


def lenet():
    return Sequential(
        *(Conv2d(1, 6, 5), ReLU(), MaxPool2d(2)),
        *(Conv2d(6, 16, 5), ReLU(), MaxPool2d(2), Flatten()),
        *(Linear(256, 120), ReLU(), Dropout(0.5), Linear(120, 84), ReLU(), Dropout(0.5), Linear(84, 10)),
    )


def cnn():
    return Sequential(
        *(Conv2d(3, 32, 3, padding=1), ReLU(), MaxPool2d(2)),
        *(Conv2d(32, 64, 3, padding=1), ReLU(), MaxPool2d(2)),
        *(Conv2d(64, 64, 3, padding=1), ReLU(), MaxPool2d(2), Flatten()),
        *(Linear(1024, 64), Sigmoid(), Linear(64, 10)),
    )


# data set, network, learning rate, epochs
TASKS = {"mnist-lenet": (data.load_mnist, lenet, 0.01, 5), "cifar10-cnn": (data.load_cifar10, cnn, 0.015, 10)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--backend", default="cupy", choices=["cupy", "numba", "numpy"])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    load, build, lr, epochs = TASKS[options.task]

    try:
        # From here on networks are made on the GPU; the Trainer takes the data there
        fastnn.set_backend(options.backend)
    except fastnn.BackendUnavailable as reason:
        parser.exit(1, f"{reason}\n")
    fastnn.seed(0)

    images = load()
    x_train, mean, std = data.standardize(images.x_train, per="global")
    x_test, _, _ = data.standardize(images.x_test, mean, std)

    net = build()
    sgd = optim.SGD(net.parameters(), lr, momentum=0.9, weight_decay=1e-4)
    trainer = Trainer(net, losses.SoftmaxCrossEntropy(), sgd)
    history = trainer.fit(x_train, images.y_train, options.epochs or epochs, options.batch_size)
    _, accuracy = trainer.evaluate(x_test, images.y_test)
    print(f"test accuracy {100 * accuracy:.2f} % after {history.seconds:.1f} s of training")


if __name__ == "__main__":
    main()
