"""How low-resolution images are made: settings and presets."""

from dataclasses import dataclass
from typing import Literal

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """How low-resolution images are made: shares of four processes, and their probabilities and ranges.

    `second_order` is Real-ESRGAN's (Wang et al. 2021, arXiv:2107.10833) with the ranges of its published options,
    `shuffled` BSRGAN's (Zhang et al. 2021, arXiv:2103.14006) with those of its published code; both also with WebP,
    JPEG of full chroma, and resizes with antialiasing. Widths of blur are for scale 4, and multiplied by scale / 4 at
    others. Pairs of ranges are of the first and the second round.

    Attributes:
        bicubic: share of images that are shrunk by bicubic as [`downscale`] does, and nothing else.
        camera: of images as from one camera: slight blur, an antialiased resize, sensor noise, one compression.
        second_order: of images through two rounds of blur, resize, noise and compression.
        shuffled: of images through two blurs, two resizes, noise and compression in random order, and compression.
        kernel_sides: smallest and largest side of blur kernels, odd.
        kernel_shares: of isotropic and anisotropic Gaussian, generalized Gaussian and plateau kernels, in that order.
        sinc: probability of a sinc filter instead of a Gaussian.
        sigmas: standard deviations of blur in pixels.
        generalized_beta, plateau_beta: exponents; half of them are drawn below 1, half above.
        second_blur, final_sinc: probabilities of the second round's blur and the last filter.
        resize_shares: of enlarging, shrinking and keeping the size.
        sizes: smallest and largest size, the first round's largest in sides of the large image, all others in sides
            of the small one.
        aliased: probability of a resize without antialiasing.
        gaussian_sigmas: standard deviations of Gaussian noise, in levels of 255.
        poisson_strengths: see [`poisson_noise`].
        grey_noise, correlated_noise: shares of noise that is grey, or (if Gaussian) correlated between channels.
        quality: of JPEG and WebP in `second_order` and `shuffled`.
        webp: share of compressions by WebP.
        full_chroma: share of JPEGs without chroma subsampling.
        halved: share of `shuffled` images first shrunk by 2, at scale 4.
        shuffled_sigmas: standard deviations of `shuffled` Gaussian noise, in levels of 255.
        shuffled_jpeg, shuffled_sensor: probabilities of the compression in the middle, and of sensor noise.
        camera_blur, camera_noise, camera_codec: probabilities that an image of `camera` is blurred, noisy, compressed.
        camera_sigma: standard deviation of its blur, in pixels of the small image.
        camera_shot, sensor_shot: of [`sensor_noise`] in `camera` and in `shuffled`, drawn uniformly in the logarithm.
        camera_quality: of its compression.
    """

    bicubic: float = 0.0
    camera: float = 0.0
    second_order: float = 0.0
    shuffled: float = 0.0
    kernel_sides: tuple[int, int] = (7, 21)
    kernel_shares: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sinc: float = 0.1
    sigmas: tuple[Range, Range] = ((0.2, 3.0), (0.2, 1.5))
    generalized_beta: Range = (0.5, 4.0)
    plateau_beta: Range = (1.0, 2.0)
    second_blur: float = 0.8
    final_sinc: float = 0.8
    resize_shares: tuple[tuple[float, float, float], ...] = ((0.2, 0.7, 0.1), (0.3, 0.4, 0.3))
    sizes: tuple[Range, Range] = ((0.6, 1.5), (0.3, 1.2))
    aliased: float = 0.5
    gaussian_sigmas: tuple[Range, Range] = ((1, 30), (1, 25))
    poisson_strengths: tuple[Range, Range] = ((0.05, 3.0), (0.05, 2.5))
    grey_noise: float = 0.4
    correlated_noise: float = 0.2
    quality: tuple[int, int] = (30, 95)
    webp: float = 0.1
    full_chroma: float = 0.25
    halved: float = 0.25
    shuffled_sigmas: Range = (2, 25)
    shuffled_jpeg: float = 0.9
    shuffled_sensor: float = 0.25
    sensor_shot: Range = (1e-4, 0.012)
    camera_blur: float = 0.7
    camera_noise: float = 0.8
    camera_codec: float = 0.85
    camera_sigma: Range = (0.1, 1.0)
    camera_shot: Range = (1e-4, 0.004)
    camera_quality: tuple[int, int] = (60, 95)

    def __post_init__(self):
        if min(self.shares) < 0 or sum(self.shares) <= 0:
            raise ValueError(
                "The shares bicubic, camera, second_order and shuffled must not be negative nor all 0, got "
                f"{self.shares}."
            )

    @property
    def shares(self) -> tuple[float, float, float, float]:
        return self.bicubic, self.camera, self.second_order, self.shuffled


Preset = Literal["bicubic", "mild", "strong", "photo", "blind"]


PRESETS: dict[Preset, Degradation] = {
    "bicubic": Degradation(bicubic=1),
    "mild": Degradation(bicubic=0.2, camera=0.8),
    "strong": Degradation(second_order=0.5, shuffled=0.5),
    # 15% bicubic, 45% mild, 40% strong
    "photo": Degradation(bicubic=0.24, camera=0.36, second_order=0.2, shuffled=0.2),
}
