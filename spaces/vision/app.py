"""The hfvision Space: classify, upscale, attack and look inside, by the models that the package carries.

python spaces/vision/app.py
"""

from hfvision.demo.app import build, launch

demo = build()

if __name__ == "__main__":
    launch(demo)
